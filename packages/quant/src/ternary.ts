import type { Codec, Tensor } from '@weftjs/spec'
import { reshape, tidy } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import type { Decodable } from './kernels/decodable.ts'
import { checkPer, perBlock, perScales } from './kernels/group.ts'
import { codes, numbers } from './kernels/layout.ts'
import { absmean } from './kernels/mean.ts'
import { decodeTrits, encodeTrits, tritDecoder, tritWords } from './kernels/trits.ts'
import { decodeUniform, encodeUniform, uniformDecoder } from './kernels/uniform.ts'

export interface TernaryOptions {
  /** what shares a scale: all of W, each row of it, or `group` numbers of a row */
  readonly per?: 'tensor' | 'row' | 'group'
  /** 64 by default */
  readonly group?: number
  /** two bits each, or five to a byte in base 3 */
  readonly pack?: 'bits' | 'base3'
  /** the scale that fits best to the same codes, mean |w| of those that are not 0, in place of the mean of all */
  readonly fit?: boolean
}
export interface TernaryParts extends Record<string, Tensor> {
  /** digits 0, 1, 2 for −1, 0, 1: a stream of 2 bits [⌈n/16⌉], or in base 3, the first worth 1 [⌈n/20⌉] */
  q: Tensor
  /** γ [1], [out] or [out·in/group] */
  scale: Tensor
}

/** γ·clamp(round(W/γ), −1, 1), γ = mean|W|: 2 bits a weight, 1.6 in base 3  —  Ma et al., arXiv:2402.17764 */
export const ternary = ({
  per = 'tensor',
  group = 64,
  pack = 'bits',
  fit = false,
}: TernaryOptions = {}): Codec<TernaryParts> => {
  checkPer('ternary', per, group)
  if (pack !== 'bits' && pack !== 'base3')
    throw new Error(`ternary: pack must be 'bits' or 'base3', found ${JSON.stringify(pack)}`)
  const five = pack === 'base3'
  type Shape = readonly [number, number]
  const block = (shape: Shape): number => perBlock('ternary', per, group, shape)
  const codec: Decodable<TernaryParts> = {
    name: 'ternary',
    options: { per, ...(per === 'group' && { group }), pack, fit },
    encode: (w) =>
      tidy(() => {
        const size = block(w.shape)
        const mean = absmean(w, size) // [scales]
        const q = five
          ? encodeTrits(w, mean, size)
          : encodeUniform(w, { scale: mean, zero: 1 }, { bits: 2, block: size }, 2)
        return { q, scale: fit ? absmean(w, size, mean) : mean }
      }),
    layout: (shape) => {
      const n = shape[0] * shape[1]
      const q = five ? codes(32, tritWords(n)) : codes(2, n)
      return { q, scale: numbers(perScales('ternary', per, group, shape)) }
    },
    decoder: ({ q, scale }, shape) =>
      five
        ? tritDecoder(q, scale, block(shape))
        : uniformDecoder(q, { scale, zero: 1 }, { bits: 2, block: block(shape) }),
    decode: (p, shape) => tidy(() => reshape(numbersOf(p, shape), [...shape])),
    matmul: (x, p, shape) => decodedProduct(x, shape, codec.decoder(p, shape)),
    gradient: (dy, p, shape) => decodedProduct(dy, shape, codec.decoder(p, shape), true),
    rows: (p, shape, index) =>
      tidy(() => reshape(numbersOf(p, shape, reshape(index, [-1])), [...index.shape, shape[1]])),
  }
  const numbersOf = ({ q, scale }: TernaryParts, shape: Shape, rows?: Tensor): Tensor =>
    five
      ? decodeTrits(q, scale, block(shape), shape, rows)
      : decodeUniform(q, { scale, zero: 1 }, { bits: 2, block: block(shape) }, shape, rows)
  return codec
}
