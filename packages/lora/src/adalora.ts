import type { Adapter, Scalar, Site, Tensor2D } from '@weftjs/spec'
import {
  abs,
  add,
  concat,
  eye,
  greater,
  matMul,
  maximum,
  mean,
  mul,
  neg,
  ones,
  reshape,
  scalar,
  slice,
  sqrt,
  square,
  sub,
  type Tensor,
  toFloat,
  topk,
  sum as total,
  transpose,
  zeros,
} from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { mustBeWhole, mustFit } from './shared/start.ts'

export interface AdaloraOptions {
  /** rank that is left at the end, on average over sites */
  readonly rank?: number
  /** rank of every site at first */
  readonly start?: number
  readonly alpha?: number
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
  /** steps at first before ranks are cut, steps at the end with the ranks as they are, and steps from cut to cut */
  readonly warm?: number
  readonly final?: number
  readonly every?: number
  /** decay of the averages of importance and of its uncertainty */
  readonly b1?: number
  readonly b2?: number
  /** γ of the penalty that keeps P and Q orthogonal */
  readonly orthogonal?: number
  /** triplets that a site has left, where that is decided (PEFT's `rank_pattern`), by exact names of sites */
  readonly ranks?: Readonly<Record<string, number>>
}
export interface AdaloraState extends Record<string, Tensor> {
  /** Q [r, in] */
  a: Tensor2D
  /** P [out, r] */
  b: Tensor2D
  /** Λ [r, 1], zero at first */
  e: Tensor2D
  /** 1 for triplets that may act in the end [r, 1]; fixed */
  mask: Tensor2D
  /** Ī and Ū of each, of their shapes; fixed */
  aMean: Tensor2D
  aSpread: Tensor2D
  bMean: Tensor2D
  bSpread: Tensor2D
  eMean: Tensor2D
  eSpread: Tensor2D
}

/** numbers that train at a site: r·(in + out + 1) */
export const trainable = (site: Site, { start = 12, ranks = {} }: AdaloraOptions = {}): number =>
  (ranks[site.name] ?? start) * (site.weight!.shape[0] + site.weight!.shape[1] + 1)

const TRAINED = ['a', 'b', 'e'] as const

/** Ī ← β₁Ī + (1−β₁)|p·∂p|, Ū ← β₂Ū + (1−β₂)|I − Ī|, under the names of the state */
const averages = (state: AdaloraState, grads: Partial<AdaloraState>, b1: number, b2: number): Partial<AdaloraState> => {
  const next: Record<string, Tensor> = {}
  for (const key of TRAINED) {
    const now = abs(mul(state[key], grads[key]!))
    const mean = add(mul(state[`${key}Mean`], b1), mul(now, 1 - b1))
    next[`${key}Mean`] = mean
    next[`${key}Spread`] = add(mul(state[`${key}Spread`], b2), mul(abs(sub(now, mean)), 1 - b2))
  }
  return next
}
/** of each triplet: s(λ) + mean s(q) + mean s(p), s = Ī·Ū: [r] */
const scores = ({ aMean, aSpread, bMean, bSpread, eMean, eSpread }: AdaloraState): Tensor =>
  add(add(mean(mul(aMean, aSpread), 1), mean(mul(bMean, bSpread), 0)), reshape(mul(eMean, eSpread), [eMean.shape[0]]))

/** ‖t·tᵀ − I‖, t [r, n]; the paper has its square, its code and PEFT do not */
const skew = (t: Tensor): Tensor => {
  const off = sub(matMul(t, t, false, true), eye(t.shape[0]!))
  return sqrt(maximum(total(square(off)), 1e-24))
}

/**
 * W + (α/r₀)·P·Λ·Q, triplets cut over all sites to a budget by what they matter  —  Zhang et al., arXiv:2303.10512
 *
 * A step takes twice LoRA's: it has half as many triplets more to begin with, the norms of two Gram matrices of each site, and
 * after it the running means of six tensors.
 */
export const adalora = (options: AdaloraOptions = {}): Adapter<AdaloraState> => {
  const { rank = 8, start = 12, alpha = 8, dropout = 0, warm = 0, final = 0, every = 1 } = options
  const { b1 = 0.85, b2 = 0.85, orthogonal = 0.5, ranks = {} } = options
  mustBeChance('adalora: dropout', dropout)
  mustBeWhole('adalora', 'rank', rank)
  mustBeWhole('adalora', 'every', every)
  for (const [what, n] of Object.entries({ warm, final })) mustBeWhole('adalora', what, n, 0)
  if (rank > start)
    throw new Error(`adalora: rank ${rank} exceeds start ${start}, from which ranks are cut; raise start`)
  for (const [what, b] of Object.entries({ b1, b2 }))
    if (!(b > 0 && b < 1)) throw new Error(`adalora: ${what} must be between 0 and 1, found ${b}`)
  if (!(orthogonal >= 0)) throw new Error(`adalora: orthogonal must be at least 0, found ${orthogonal}`)

  /** how many of `count` triplets of n sites may act after a step; all where nothing is cut at it */
  const budget = (count: number, n: number, step: number, end: number): number => {
    if (step <= warm || (step % every && step !== end)) return count
    const left = 1 - (step - warm) / (end - warm)
    return Math.trunc((count - n * rank) * left ** 3 + n * rank)
  }
  return {
    name: 'adalora',
    options: { ...options },
    init: (site, { rng, sites, shared }) => {
      const [out, input] = site.weight!.shape
      const r = ranks[site.name] ?? start
      if (r) mustFit(site, r)
      shared('share', () => scalar(1 / (2 * sites.length)))
      const like = { a: [r, input], b: [out, r], e: [r, 1] }
      const state: Record<string, Tensor> = {
        ...{ a: rng.fork('a').normal(like.a, 0.02), b: rng.fork('b').normal(like.b, 0.02), e: zeros(like.e) },
        mask: ones([r, 1]),
      }
      for (const key of TRAINED) for (const what of ['Mean', 'Spread']) state[key + what] = zeros(like[key])
      return { state: state as AdaloraState, trains: TRAINED }
    },
    weight: (base, { a, b, e }, ctx) => {
      const { share } = ctx.shared
      // γ times the mean over P and Q of all sites
      if (ctx.training && orthogonal && share)
        ctx.penalty(mul(mul(add(skew(a), skew(transpose(b))), share), orthogonal) as Scalar)
      // PEFT's r₀ + 10⁻⁵
      const delta = scale(alpha / (start + 1e-5), lowRank(b, mul(a, e) as Tensor2D))
      return sum(base, droppedWhile(ctx, dropout, delta))
    },
    revise: (sites, { step, steps }) => {
      const list = Object.entries(sites)
      const end = steps - final
      if (warm >= end)
        throw new Error(
          `adalora: ${warm} steps before and ${final} after leave none of ${steps} to cut ranks in; lower warm or final`,
        )
      // at the end the pattern stands, and whatever the optimizer adds to the others is taken away again
      if (step > end)
        return Object.fromEntries(
          list.map(([name, { state }]) => [name, { state: { e: mul(state.e, state.mask) as Tensor2D } }]),
        )
      const moved = list.map(([, { state, grads }]) => (step < end ? averages(state, grads, b1, b2) : {}))
      const found = list.map(([, { state }], i) => scores({ ...state, ...moved[i] } as AdaloraState))
      const count = found.reduce((n, s) => n + s.size, 0)
      const cut = count - budget(count, list.length, step, end)
      // the largest of the `cut` lowest scores [1]; no number is read, so that a GPU need not be waited for
      const limit = cut > 0 ? slice(neg(topk(neg(concat(found)), cut).values), [cut - 1], [1]) : undefined
      return Object.fromEntries(
        list.map(([name, { state }], i) => {
          if (!limit) return [name, { state: moved[i]! }]
          const mask = reshape(toFloat(greater(found[i]!, limit)), [-1, 1]) as Tensor2D // [r, 1]
          return [name, { state: { ...moved[i], mask, e: mul(state.e, mask) as Tensor2D } }]
        }),
      )
    },
  }
}
