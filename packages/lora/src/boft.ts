import type { Adapter, RunContext, Site, Tensor1D, Tensor3D, Tensor4D } from '@weftjs/spec'
import { mul, ones, reshape, sub, type Tensor, tensor4d, transpose, unstack, zeros } from '@weftjs/tensor'
import { blockDiagonal, compose, mapped, scaleRows } from '@weftjs/weight'
import { cayley } from './shared/cayley.ts'
import { mustBeChance, turning } from './shared/dropped.ts'
import { mustBeWhole } from './shared/start.ts'

export interface BoftOptions {
  /** inputs that turn together in one factor */
  readonly block?: number
  /** how many blocks instead */
  readonly blocks?: number
  /** butterfly factors, each mixing twice as far as the one before; 1 is OFT with a scale */
  readonly factors?: number
  /** share of the blocks of one factor that do not turn in a training step */
  readonly dropout?: number
}
export interface BoftState extends Record<string, Tensor> {
  /** Q is half of r − rᵀ: [factors, blocks, b, b] */
  r: Tensor4D
  /** scale of each output [out] */
  s: Tensor1D
}

const split = (n: number, { block = 4, blocks }: BoftOptions): [b: number, count: number] =>
  blocks === undefined ? [block, n / block] : [n / blocks, blocks]

/** numbers that train at a site: factors·in·b + out */
export const trainable = ({ in: n, out }: Site, options: BoftOptions = {}): number =>
  (options.factors ?? 1) * n * split(n, options)[0] + out

/** x [..., n] read as [..., parts, p, q, r] and its axes p and q exchanged */
const exchanged = (x: Tensor, parts: number, p: number, q: number): Tensor =>
  reshape(transpose(reshape(x, [-1, parts, p, q, x.shape.at(-1)! / (parts * p * q)]), [0, 1, 3, 2, 4]), x.shape)

/**
 * diag(s)·W·(Bₘ ⋯ B₁)ᵀ, B = P·diag(R₁, ..., R_k)·Pᵀ with Cayley rotations R and the butterfly's P  —  Liu et al., arXiv:2311.06243
 *
 * A step takes two and a half of LoRA's: an inverse of each block, and products of b numbers each, of 4 by default, for which
 * no machine has units that are as fast as for a large matrix.
 */
export const boft = (options: BoftOptions = {}): Adapter<BoftState> => {
  const { factors = 1, dropout = 0 } = options
  if (options.block !== undefined && options.blocks !== undefined)
    throw new Error('boft: block times blocks is the number of inputs; give one of the two')
  mustBeWhole('boft', 'block', options.block ?? 4, 2)
  mustBeWhole('boft', 'blocks', options.blocks ?? 1)
  mustBeWhole('boft', 'factors', factors)
  mustBeChance('boft: dropout', dropout)
  /** some blocks of one factor do not turn in a training step */
  const still = (q: Tensor, { training, rng }: RunContext): Tensor => {
    const [m, n] = q.shape as [number, number]
    if (!training || !rng || Math.floor(dropout * n) === 0) return q
    const factor = Math.floor(rng.fork('factor').numbers(1)[0]! * m)
    const mask = turning(rng.fork('blocks'), n, dropout)
    return mul(
      q,
      tensor4d(Array.from({ length: m }, (_, i) => (i === factor ? mask : mask.map(() => 1))).flat(), [m, n, 1, 1]),
    )
  }
  return {
    name: 'boft',
    options: { ...options },
    init: ({ name, weight }) => {
      const [out, input] = weight!.shape
      const [b, count] = split(input, options)
      const wide = 2 ** (factors - 1)
      if (!Number.isInteger(b) || !Number.isInteger(count) || b < 2)
        throw new Error(`${name}: ${input} inputs are no whole number of blocks (${count} of ${b}); choose a divisor`)
      if (factors > 1 && (b % 2 || count % wide))
        throw new Error(
          `${name}: ${factors} factors need an even block and a multiple of ${wide} blocks, found ${count} of ${b}; lower "factors"`,
        )
      return { state: { r: zeros([factors, count, b, b]) as Tensor4D, s: ones([out]) as Tensor1D } }
    },
    weight: (base, { r, s }, ctx) => {
      const input = base.shape[1]
      const count = r.shape[1]
      const q = mul(sub(transpose(r, [0, 1, 3, 2]), r), 0.5) // −Q [m, blocks, b, b]
      const turns = unstack(cayley(still(q, ctx))) as Tensor3D[] // Rᵀ, m of [blocks, b, b]
      const rotation = mapped([input, input], { r }, (x) =>
        turns.reduceRight((y, turn, i) => {
          const rotated = blockDiagonal(turn)
          if (i === 0) return rotated.apply(y)
          // in groups of 2ⁱ blocks, the even halves of blocks stand before the odd ones while they turn
          const [groups, far] = [count / 2 ** i, 2 ** i]
          return exchanged(rotated.apply(exchanged(y, groups, 2, far)), groups, far, 2)
        }, x),
      )
      return scaleRows(s, compose(base, rotation))
    },
  }
}
