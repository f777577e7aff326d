import type { Codec, Tensor } from '@weftjs/spec'
import { mul, reshape, tensor1d, tidy } from '@weftjs/tensor'
import { decodedProduct } from '@weftjs/tensor/decoded'
import type { Decodable } from './kernels/decodable.ts'
import { blockOf, checkGroup } from './kernels/group.ts'
import { codes, numbers } from './kernels/layout.ts'
import { peaks, ranges } from './kernels/range.ts'
import { decodeUniform, encodeUniform, type Steps, uniformDecoder } from './kernels/uniform.ts'

export interface AffineOptions {
  readonly bits?: 2 | 3 | 4 | 8
  /** numbers of a row that share a scale; -1: the whole row */
  readonly group?: number
  /** no zeros: the middle code is 0, and the scale is such that the group's largest magnitude is exact */
  readonly symmetric?: boolean
}
export interface AffineParts extends Record<string, Tensor> {
  /** codes, one stream without a gap, lowest bit first: code i in bits [bits·i, bits·i + bits) [⌈n·bits/32⌉] */
  q: Tensor
  /** of each group, row by row [out·in/group] */
  scale: Tensor
}
/** what a grid that is not symmetric has too */
export interface Zeros {
  /** codes of 0, packed as `q` is [⌈groups·bits/32⌉] */
  readonly zero: Tensor
}

const ONE = (): Steps => ({ scale: tensor1d([1]), zero: 0 })

/** The grid under any name, for codecs that are this one with other defaults. */
export const affineNamed = (
  name: string,
  { bits = 4, group = 64, symmetric = false }: AffineOptions,
  options: AffineOptions = { bits, group, symmetric },
): Decodable<AffineParts> => {
  if (![2, 3, 4, 8].includes(bits)) throw new Error(`${name}: bits must be 2, 3, 4 or 8, found ${bits}`)
  checkGroup(name, group)
  const most = 2 ** bits - 1
  const grid = ([, width]: readonly [number, number]) => ({ bits, block: blockOf(name, group, width) })
  const groups = (shape: readonly [number, number]): number => (shape[0] * shape[1]) / grid(shape).block
  /** zeros as numbers */
  const steps = (p: AffineParts, shape: readonly [number, number]): Steps => {
    if (symmetric) return { scale: p.scale, zero: 2 ** (bits - 1) }
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
        const found = ranges(w, block, most)
        const q = encodeUniform(w, found, { bits, block })
        const zero = encodeUniform(found.zero, ONE(), { bits, block: Math.max(1, found.zero.size) })
        return { q, scale: found.scale, zero } as AffineParts
      }),
    layout: (shape) => {
      const n = groups(shape)
      const q = codes(bits, shape[0] * shape[1])
      return { q, scale: numbers(n), ...(!symmetric && { zero: codes(bits, n) }) }
    },
    decoder: (p, shape) =>
      uniformDecoder(
        p.q,
        { scale: p.scale, zero: symmetric ? 2 ** (bits - 1) : { codes: (p as unknown as Zeros).zero } },
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
