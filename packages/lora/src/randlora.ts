import type { Adapter, Site, Tensor2D, Tensor3D } from '@weftjs/spec'
import { expandDims, fill, matMul, mul, reshape, slice, type Tensor, tensor3d, transpose, zeros } from '@weftjs/tensor'
import { compose, dense, made, mapped, scale, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { type Bases, basisA, basisB } from './shared/random-bases.ts'
import { mustBeNumber, mustBeWhole, mustFit } from './shared/start.ts'
import { largest } from './vera.ts'

export interface RandloraOptions {
  /** r of each basis: the fewer, the more trains */
  readonly rank?: number
  /** the update is scaled by α/r; 20·r by default */
  readonly alpha?: number
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
  /** entries of the bases: uniform, or ±1 with a third left (`sparse`), or 1/√m left (`very-sparse`) */
  readonly bases?: Bases
  /** of the generator that they are drawn from: PEFT's `projection_prng_key` */
  readonly seed?: number
}
export interface RandloraState extends Record<string, Tensor> {
  /** Λ [r, N] */
  lambda: Tensor2D
  /** Γ [N, m] */
  gamma: Tensor2D
}

/** N = ⌈min/r⌉ bases, m = min(out, in), M = max(out, in) */
const sizes = ([out, input]: readonly [number, number], r: number): { m: number; M: number; N: number } => ({
  ...{ m: Math.min(out, input), M: Math.max(out, input), N: Math.ceil(Math.min(out, input) / r) },
})

/** numbers that train at a site: N·(r + m) */
export const trainable = ({ in: n, out }: Site, { rank = 32 }: RandloraOptions = {}): number => {
  const { m, N } = sizes([out, n], rank)
  return N * (rank + m)
}

/**
 * W + (α/r)·Σₙ Bₙ·diag(λₙ)·A·diag(γₙ) (transposed where out < in), A and B random, fixed and the same for all sites, Λ zero  —  Albert et al., arXiv:2502.00987
 *
 * A step takes twice LoRA's: the update has full rank, N products of rank r where LoRA has one.
 */
export const randlora = (options: RandloraOptions = {}): Adapter<RandloraState> => {
  const { rank: r = 32, alpha = 20 * r, dropout = 0, bases = 'dense', seed = 0 } = options
  mustBeWhole('randlora', 'rank', r)
  mustBeWhole('randlora', 'seed', seed, 0)
  mustBeNumber('randlora: alpha', alpha)
  mustBeChance('randlora: dropout', dropout)
  if (!['dense', 'sparse', 'very-sparse'].includes(bases))
    throw new Error(`randlora: bases must be 'dense', 'sparse' or 'very-sparse', found '${bases}'`)
  return {
    name: 'randlora',
    options: { ...options },
    init: (site, { sites, shared }) => {
      mustFit(site, r)
      const all = sizes(largest(sites), r)
      shared('a', () => tensor3d(basisA(bases, seed, r, all), [r, 1, all.m]))
      shared('b', () => tensor3d(basisB(bases, seed, r, all), [all.M, all.N, r]))
      const { m, N } = sizes(site.weight!.shape, r)
      const gamma = fill([N, m], 1 / Math.max(N, m)) as Tensor2D
      return { state: { lambda: zeros([r, N]) as Tensor2D, gamma } }
    },
    // of full rank, N·r ≥ m: its two products are as large as the base's own, and their gradients take three more; so a step
    // takes three or four of LoRA's. The scaled A, as large as m·m, is made for each product and not held.
    weight: (base, { lambda, gamma }, ctx) => {
      const input = base.shape[1]
      const { m, M, N } = sizes(base.shape, r)
      const a = (): Tensor => slice(ctx.shared['a'] as Tensor3D, [0, 0, 0], [r, 1, m]) // [r, 1, m]
      const b = reshape(slice(ctx.shared['b'] as Tensor3D, [0, 0, 0], [M, N, r]), [M, N * r]) as Tensor2D
      // rows of A are counted with N innermost and columns of B with r innermost, as in PEFT: another pairing of random bases
      const scaled = made([r * N, m], { lambda, gamma }, (p) => {
        const all = mul(mul(expandDims(p['lambda']!, 2), a()), p['gamma']!) // [r, N, m]
        return reshape(all, [r * N, m]) as Tensor2D
      })
      const turned = made([m, r * N], { lambda, gamma }, (p) => {
        const columns = mul(transpose(a(), [2, 0, 1]), expandDims(transpose(p['gamma']!), 1)) // [m, r, N]
        return reshape(mul(columns, p['lambda']!), [m, r * N]) as Tensor2D
      })
      const onInput = mapped([r * N, input], {}, (x) =>
        reshape(matMul(reshape(x, [-1, input]), b), [...x.shape.slice(0, -1), r * N]),
      )
      const delta = input === m ? compose(dense(b), scaled) : compose(turned, onInput) // [out, in]
      return sum(base, scale(alpha / r, droppedWhile(ctx, dropout, delta)))
    },
  }
}
