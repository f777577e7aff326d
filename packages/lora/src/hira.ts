import type { Adapter, Site, Tensor2D, Weight } from '@weftjs/spec'
import { add, matMul, mul, type Tensor, zeros } from '@weftjs/tensor'
import { lowRank, made, rowsOf, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { patterned } from './shared/pattern.ts'
import { kaiming, mustFit } from './shared/start.ts'

export interface HiraOptions {
  /** r */
  readonly rank?: number
  /** rank of sites whose name matches the pattern, a regular expression on the end of the name, as in PEFT */
  readonly rankPattern?: Readonly<Record<string, number>>
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
  /** distribution of A; PEFT's default is `kaiming` (uniform) */
  readonly init?: 'kaiming' | 'gaussian'
}
export interface HiraState extends Record<string, Tensor> {
  /** A [r, in] */
  a: Tensor2D
  /** B [out, r] */
  b: Tensor2D
}

/** numbers that train at a site: r·(in + out) */
export const trainable = ({ in: n, out }: Site, { rank = 32 }: HiraOptions = {}): number => rank * (n + out)

/** W⊙(1 + B·A), or W⊙(B·A): as a matrix, since its rank is r times that of W */
const modulated = (base: Weight, { a, b }: HiraState, one: number): Weight => ({
  ...made(base.shape, { a, b }, (p) => mul(base.dense(), add(matMul(p['b']!, p['a']!), one)) as Tensor2D, base.parts),
  like: base.like,
  rows: (index) => mul(rowsOf(base, index), add(rowsOf(lowRank(b, a), index), one)),
})

/**
 * W + W⊙(B·A), A random, B zero  —  Huang et al., HiRA, ICLR 2025, openreview:TwJrTz9cRS
 *
 * A step takes twice LoRA's: the gradients of A and B come from that of the whole matrix, a third product of the layer's size
 * where LoRA has two, and W⊙(B·A) is made for each pass.
 */
export const hira = (options: HiraOptions = {}): Adapter<HiraState> => {
  const { rank = 32, rankPattern = {}, dropout = 0, init = 'kaiming' } = options
  const ranks = patterned(rankPattern, 'hira: rankPattern')
  mustBeChance('hira: dropout', dropout)
  if (init !== 'kaiming' && init !== 'gaussian')
    throw new Error(`hira: init must be 'kaiming' or 'gaussian', found '${init}'`)
  return {
    name: 'hira',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const r = ranks(site.name, site.module) ?? rank
      mustFit(site, r)
      const a = init === 'gaussian' ? rng.normal([r, input], 1 / r) : kaiming(rng, [r, input]) // [r, in]
      return { state: { a: a as Tensor2D, b: zeros([out, r]) as Tensor2D } }
    },
    weight: (base, state, ctx) =>
      ctx.training && dropout
        ? sum(base, droppedWhile(ctx, dropout, modulated(base, state, 0)))
        : modulated(base, state, 1),
  }
}
