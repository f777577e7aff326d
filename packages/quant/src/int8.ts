import type { Codec, Tensor } from '@weftjs/spec'
import { reshape, tidy } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import { absmax } from './kernels/absmax.ts'
import type { Decodable } from './kernels/decodable.ts'
import { linearDecoder } from './kernels/decoder.ts'
import { checkPer, perBlock, perScales } from './kernels/group.ts'
import { codes, numbers } from './kernels/layout.ts'
import { decodeLinear8, encodeLinear8, THROUGH_127 } from './kernels/linear8.ts'

export interface Int8Options {
  /** what shares a scale: each row of W, an output of the layer, all of W, or `group` numbers of a row */
  readonly per?: 'tensor' | 'row' | 'group'
  /** 64 by default */
  readonly group?: number
}
export interface Int8Parts extends Record<string, Tensor> {
  /** codes -127..127, four to an int32 word, row-major [⌈n/4⌉] */
  q: Tensor
  /** largest magnitude of each row [out], of the matrix [1], or of each group [out·in/group] */
  scale: Tensor
}

/** round(127·W/max|row|): 8 + 32/in bits a weight  —  the weights of Dettmers et al., arXiv:2208.07339 */
export const int8 = ({ per = 'row', group = 64 }: Int8Options = {}): Codec<Int8Parts> => {
  checkPer('int8', per, group)
  const block = (shape: readonly [number, number]): number => perBlock('int8', per, group, shape)
  const codec: Decodable<Int8Parts> = {
    name: 'int8',
    options: { per, ...(per === 'group' && { group }) },
    encode: (w) =>
      tidy(() => {
        const [out, width] = w.shape
        // of a whole matrix by rows first, so that no thread of a GPU goes through all of it
        const scale =
          per === 'tensor' ? absmax(absmax(w, Math.max(1, width)), Math.max(1, out)) : absmax(w, block(w.shape)) // [scales]
        return { q: encodeLinear8(w, scale, block(w.shape)), scale }
      }),
    layout: (shape) => ({ q: codes(8, shape[0] * shape[1]), scale: numbers(perScales('int8', per, group, shape)) }),
    decoder: ({ q, scale }, shape) => linearDecoder(q, scale, THROUGH_127, shape[1], block(shape)),
    decode: ({ q, scale }, shape) => reshape(decodeLinear8(q, scale, shape, undefined, block(shape)), [...shape]),
    matmul: (x, p, shape) => decodedProduct(x, shape, codec.decoder(p, shape)),
    gradient: (dy, p, shape) => decodedProduct(dy, shape, codec.decoder(p, shape), true),
    rows: ({ q, scale }, shape, index) =>
      reshape(decodeLinear8(q, scale, shape, reshape(index, [-1]), block(shape)), [...index.shape, shape[1]]),
  }
  return codec
}
