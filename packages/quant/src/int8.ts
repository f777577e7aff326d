import type { Codec, Tensor } from '@weftjs/spec'
import { reshape } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import { absmax } from './kernels/absmax.ts'
import { linearDecoder } from './kernels/decoder.ts'
import { codes, numbers } from './kernels/layout.ts'
import { decodeLinear8, encodeLinear8, THROUGH_127 } from './kernels/linear8.ts'

export interface Int8Options {
  /** one scale for each row of W, an output of the layer */
  readonly per?: 'row'
}
export interface Int8Parts extends Record<string, Tensor> {
  /** codes -127..127, four to an int32 word, row-major [⌈n/4⌉] */
  q: Tensor
  /** largest magnitude of each row [out] */
  scale: Tensor
}

/** round(127·W/max|row|): 8 + 32/in bits a weight  —  the weights of Dettmers et al., arXiv:2208.07339 */
export const int8 = ({ per = 'row' }: Int8Options = {}): Codec<Int8Parts> => {
  if (per !== 'row') throw new Error(`int8: per must be 'row', found ${JSON.stringify(per)}`)
  return {
    name: 'int8',
    options: { per },
    encode: (w) => {
      const scale = absmax(w, w.shape[1]) // [out]
      return { q: encodeLinear8(w, scale, w.shape[1]), scale }
    },
    layout: ([out, input]) => ({ q: codes(8, out * input), scale: numbers(out) }),
    decode: ({ q, scale }, shape) => reshape(decodeLinear8(q, scale, shape), [...shape]),
    matmul: (x, { q, scale }, shape) => decodedProduct(x, shape, linearDecoder(q, scale, THROUGH_127, shape[1])),
    gradient: (dy, { q, scale }, shape) =>
      decodedProduct(dy, shape, linearDecoder(q, scale, THROUGH_127, shape[1]), true),
    rows: ({ q, scale }, shape, index) =>
      reshape(decodeLinear8(q, scale, shape, reshape(index, [-1])), [...index.shape, shape[1]]),
  }
}
