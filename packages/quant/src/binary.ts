import type { Codec, Tensor } from '@weftjs/spec'
import { mul, reshape, tidy } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import type { Decodable } from './kernels/decodable.ts'
import { checkPer, perBlock, perScales } from './kernels/group.ts'
import { codes, numbers } from './kernels/layout.ts'
import { absmean } from './kernels/mean.ts'
import { decodeUniform, encodeSigns, uniformDecoder } from './kernels/uniform.ts'

export interface BinaryOptions {
  /** what shares a scale: each row of W, `group` numbers of a row, or all of W */
  readonly per?: 'row' | 'group' | 'tensor'
  /** 64 by default */
  readonly group?: number
}
export interface BinaryParts extends Record<string, Tensor> {
  /** 1 where w ≥ 0, a stream of bits, lowest first, row by row [⌈n/32⌉] */
  q: Tensor
  /** from −α to α: 2·mean|w| [out], [out·in/group] or [1] */
  step: Tensor
}
const HALF = 0.5

/** α·sign(W), α = mean|row|: 1 + 32/in bits a weight  —  Rastegari et al., arXiv:1603.05279 */
export const binary = ({ per = 'row', group = 64 }: BinaryOptions = {}): Codec<BinaryParts> => {
  checkPer('binary', per, group)
  type Shape = readonly [number, number]
  const grid = (shape: Shape) => ({ bits: 1, block: perBlock('binary', per, group, shape) })
  const codec: Decodable<BinaryParts> = {
    name: 'binary',
    options: { per, ...(per === 'group' && { group }) },
    encode: (w) => tidy(() => ({ q: encodeSigns(w), step: mul(absmean(w, grid(w.shape).block), 2) })),
    layout: (shape) => ({ q: codes(1, shape[0] * shape[1]), step: numbers(perScales('binary', per, group, shape)) }),
    decoder: ({ q, step }, shape) => uniformDecoder(q, { scale: step, zero: HALF }, grid(shape)),
    decode: ({ q, step }, shape) =>
      tidy(() => reshape(decodeUniform(q, { scale: step, zero: HALF }, grid(shape), shape), [...shape])),
    matmul: (x, p, shape) => decodedProduct(x, shape, codec.decoder(p, shape)),
    gradient: (dy, p, shape) => decodedProduct(dy, shape, codec.decoder(p, shape), true),
    rows: ({ q, step }, shape, index) =>
      tidy(() => {
        const found = decodeUniform(q, { scale: step, zero: HALF }, grid(shape), shape, reshape(index, [-1]))
        return reshape(found, [...index.shape, shape[1]])
      }),
  }
  return codec
}
