import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { clipByValue, div, greater, max, min, mul, reshape, round, sub, tensor1d, tidy, where } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import type { Decodable } from './kernels/decodable.ts'
import { blockOf, checkGroup } from './kernels/group.ts'
import { packCodes } from './kernels/grouped.ts'
import { codes, numbers } from './kernels/layout.ts'
import { peaks, ranges } from './kernels/range.ts'
import { decodeUniform, encodeUniform, type Steps, uniformDecoder } from './kernels/uniform.ts'

export interface AffineOptions {
  readonly bits?: 2 | 3 | 4 | 8
  /** numbers of a row that share a scale; -1: the whole row */
  readonly group?: number
  /** no zeros: the middle code is 0, and the scale is such that the group's largest magnitude is exact */
  readonly symmetric?: boolean
  /**
   * Zero points in float32, no codes: least and largest number of a group are exact, 0 is no level of its own, and a
   * number added to all of a group moves its zero point and leaves its codes (QA-LoRA)
   */
  readonly floatZero?: boolean
}
export interface AffineParts extends Record<string, Tensor> {
  /** codes, one stream without a gap, lowest bit first: code i in bits [bits·i, bits·i + bits) [⌈n·bits/32⌉] */
  q: Tensor
  /** of each group, row by row [out·in/group] */
  scale: Tensor
}
/** what a grid that is not symmetric has too */
export interface Zeros {
  /** codes of 0, packed as `q` is [⌈groups·bits/32⌉]; with `floatZero` numbers [groups] */
  readonly zero: Tensor
}

/** the grid from the least to the largest number of each group; one of a single number has the step 1 */
const spanned = (w: Tensor2D, bits: number, block: number): AffineParts & Zeros => {
  const most = 2 ** bits - 1
  const x = reshape(w, [-1, block]) // [groups, block]
  const low = min(x, 1, true) // [groups, 1]
  // divided first, as numbers near the largest float32 are far apart
  const wide = sub(div(max(x, 1, true), most), div(low, most))
  const scale = where(greater(wide, 0), wide, 1)
  // less the least number first, so that codes are the same however far from 0 the group lies; by halves, within float32
  const above = sub(mul(x, 0.5), mul(low, 0.5))
  const q = clipByValue(round(div(above, mul(scale, 0.5))), 0, most)
  return { q: packCodes(q, bits), scale: reshape(scale, [-1]), zero: reshape(div(mul(low, -1), scale), [-1]) }
}

const ONE = (): Steps => ({ scale: tensor1d([1]), zero: 0 })

/** The grid under any name, for codecs that are this one with other defaults. */
export const affineNamed = (
  name: string,
  { bits = 4, group = 64, symmetric = false, floatZero = false }: AffineOptions,
  options: AffineOptions = { bits, group, symmetric, ...(floatZero && { floatZero }) },
): Decodable<AffineParts> => {
  if (![2, 3, 4, 8].includes(bits)) throw new Error(`${name}: bits must be 2, 3, 4 or 8, found ${bits}`)
  checkGroup(name, group)
  if (symmetric && floatZero) throw new Error(`${name}: symmetric has no zero points; leave floatZero out`)
  const most = 2 ** bits - 1
  const grid = ([, width]: readonly [number, number]) => ({ bits, block: blockOf(name, group, width) })
  const groups = (shape: readonly [number, number]): number => (shape[0] * shape[1]) / grid(shape).block
  /** zeros as numbers */
  const steps = (p: AffineParts, shape: readonly [number, number]): Steps => {
    if (symmetric) return { scale: p.scale, zero: 2 ** (bits - 1) }
    if (floatZero) return { scale: p.scale, zero: (p as unknown as Zeros).zero }
    const n = groups(shape)
    const zero = decodeUniform((p as unknown as Zeros).zero, ONE(), { bits, block: Math.max(1, n) }, [1, n]) // [groups]
    return { scale: p.scale, zero }
  }
  const codec: Decodable<AffineParts> = {
    name,
    options: options as Record<string, unknown>,
    encode: (w) =>
      tidy(() => {
        const { block } = grid(w.shape)
        if (symmetric) {
          const scale = mul(peaks(w, block), -(2 ** (1 - bits))) // [groups]
          return { q: encodeUniform(w, { scale, zero: 2 ** (bits - 1) }, { bits, block }), scale }
        }
        if (floatZero) return spanned(w, bits, block)
        const found = ranges(w, block, most)
        const q = encodeUniform(w, found, { bits, block })
        const zero = encodeUniform(found.zero, ONE(), { bits, block: Math.max(1, found.zero.size) })
        return { q, scale: found.scale, zero } as AffineParts
      }),
    layout: (shape) => {
      const n = groups(shape)
      const q = codes(bits, shape[0] * shape[1])
      return { q, scale: numbers(n), ...(!symmetric && { zero: floatZero ? numbers(n) : codes(bits, n) }) }
    },
    decoder: (p, shape) =>
      uniformDecoder(
        p.q,
        floatZero || symmetric ? steps(p, shape) : { scale: p.scale, zero: { codes: (p as unknown as Zeros).zero } },
        grid(shape),
      ),
    decode: (p, shape) => tidy(() => reshape(decodeUniform(p.q, steps(p, shape), grid(shape), shape), [...shape])),
    matmul: (x, p, shape) => decodedProduct(x, shape, codec.decoder(p, shape)),
    gradient: (dy, p, shape) => decodedProduct(dy, shape, codec.decoder(p, shape), true),
    rows: (p, shape, index) =>
      tidy(() => {
        const found = decodeUniform(p.q, steps(p, shape), grid(shape), shape, reshape(index, [-1]))
        return reshape(found, [...index.shape, shape[1]])
      }),
  }
  return codec
}

/** (code − zero)·scale by groups of a row: bits + (32 + bits)/group a weight  —  the grid of Frantar et al., arXiv:2210.17323 */
export const affine = (options: AffineOptions = {}): Codec<AffineParts> => affineNamed('affine', options)
