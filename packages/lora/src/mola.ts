import type { Adapter, RunContext, Scalar, Site, Tensor, Tensor2D } from '@weftjs/spec'
import { add, div, linear, mul, scalar, softmax, sub, sum, zeros } from '@weftjs/tensor'
import { mustBeChance } from './shared/dropped.ts'
import { experts, meanOver, tokensOf, topGates, topMask } from './shared/routing.ts'
import { kaiming, mustBeNumber, mustBeWhole, mustFit } from './shared/start.ts'

export interface MolaOptions {
  /** experts of each matrix; a list stands for as many equal groups of layers, from the first to the last */
  readonly experts?: number | readonly number[]
  /** K experts that a token goes to */
  readonly top?: number
  /** r */
  readonly rank?: number
  /** each expert is scaled by α/r */
  readonly alpha?: number
  /** chance that an input of the experts is dropped while training */
  readonly dropout?: number
  /** weight of the load balance in the loss; the paper's instruction tuning has 0.001, its tasks none */
  readonly balance?: number
}
export interface MolaState extends Record<string, Tensor> {
  /** A of all experts [N·r, in] */
  a: Tensor2D
  /** B [out, N·r] */
  b: Tensor2D
  /** router W_g [N, in] */
  g: Tensor2D
}

const DEFAULT: readonly number[] = [2, 4, 6, 8]

const expertsAt = (layer: number, layers: number, { experts = DEFAULT }: MolaOptions): number =>
  typeof experts === 'number' ? experts : experts[Math.floor((Math.max(layer, 0) * experts.length) / layers)]!

/** numbers that train at a site: N·(r·(in + out) + in), N by its place among `layers` */
export const trainable = ({ in: n, out, layer }: Site, options: MolaOptions = {}, layers = 1): number =>
  expertsAt(layer, layers, options) * ((options.rank ?? 8) * (n + out) + n)

/** W·x + Σ gᵢ·(α/r)·Bᵢ·Aᵢ·x over the top K of N experts, more of them in higher layers  —  Gao et al., arXiv:2402.08562 */
export const mola = (options: MolaOptions = {}): Adapter<MolaState> => {
  const { experts: counts = DEFAULT, top = 2, rank: r = 8, alpha = 16, dropout = 0, balance = 0 } = options
  mustBeChance('mola: dropout', dropout)
  mustBeNumber('mola: alpha', alpha)
  mustBeNumber('mola: balance', balance)
  mustBeWhole('mola', 'top', top)
  if (!([counts].flat() as number[]).length)
    throw new Error('mola: experts is an empty list; give a number for each group of layers')
  for (const n of [counts].flat() as number[]) {
    mustBeWhole('mola', 'experts', n)
    if (top > n) throw new Error(`mola: top ${top} exceeds ${n} experts; lower top or raise experts`)
  }
  /** N·Σ fᵢ·Pᵢ over the pooled routers of a layer: each router adds what it changes of it */
  const spread = (p: Tensor, mask: Tensor, { site, inputs, scratch, penalty }: RunContext): void => {
    const N = p.shape.at(-1)!
    const tokens = tokensOf(inputs, p.shape)
    const axes = [...p.shape.keys()].slice(0, -1)
    const before = ['f', 'p', 'n'].map((k) => scratch.get(`mola.${site.layer}.${k}`) ?? scalar(0))
    const now = [div(meanOver(mask, tokens, axes), top), meanOver(p, tokens, axes), scalar(1)].map((t, i) =>
      add(t, before[i]!),
    )
    for (const [i, k] of ['f', 'p', 'n'].entries()) scratch.set(`mola.${site.layer}.${k}`, now[i]!)
    const term = ([f, p, n]: Tensor[]): Tensor => mul(N, sum(mul(div(f!, n!), div(p!, n!))))
    const first = before[0]!.rank === 0
    penalty(mul(balance, first ? term(now) : sub(term(now), term(before))) as Scalar)
  }
  return {
    name: 'mola',
    options: { ...options },
    init: (site, { rng, sites }) => {
      mustFit(site, r)
      const [out, input] = site.weight!.shape
      const N = expertsAt(site.layer, 1 + Math.max(...sites.map((s) => s.layer), 0), options)
      const [a, g] = [kaiming(rng, [N * r, input]), kaiming(rng.fork('router'), [N, input])]
      return { state: { a: a as Tensor2D, b: zeros([out, N * r]) as Tensor2D, g: g as Tensor2D } }
    },
    around: (next, x, { a, b, g }, ctx) => {
      const p = softmax(linear(x, g)) // [B, T, N]
      const mask = topMask(p, top)
      if (ctx.training && balance) spread(p, mask, ctx)
      const { rng } = ctx
      const read = ctx.training && dropout && rng ? mul(x, div(rng.bernoulli(x.shape, 1 - dropout), 1 - dropout)) : x
      return add(next(x), mul(alpha / r, experts(read, a, b, topGates(p, mask))))
    },
  }
}
