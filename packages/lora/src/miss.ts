import type { Adapter, Site, Tensor2D, Weight } from '@weftjs/spec'
import { linear, pad, reshape, slice, type Tensor, tile, sum as total, transpose, zeros } from '@weftjs/tensor'
import { dense, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { mustBeWhole } from './shared/start.ts'

export interface MissOptions {
  /** r: columns that are updated alike stand r apart */
  readonly rank?: number
  /** m: outputs that are updated alike stand m apart ("mini"); all by themselves by default */
  readonly mini?: number
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
}
export interface MissState extends Record<string, Tensor> {
  /** C [r, out], or [r, m] */
  c: Tensor2D
}

/** numbers that train at a site: r·out, or r·m */
export const trainable = ({ weight }: Site, { rank = 64, mini }: MissOptions = {}): number =>
  rank * (mini ?? weight!.shape[0])

/** Cᵀ again and again along the inputs, [out, in]: c [r, out] */
const repeated = (c: Tensor2D, input: number): Weight => {
  const [r, out] = c.shape
  const times = Math.ceil(input / r)
  return {
    shape: [out, input],
    format: 'repeated',
    parts: { c },
    apply: (x) => {
      const full = pad(x, [...x.shape.slice(1).map(() => [0, 0] as [number, number]), [0, times * r - input]])
      return linear(total(reshape(full, [...x.shape.slice(0, -1), times, r]), -2), transpose(c))
    },
    dense: () => slice(tile(transpose(c), [1, times]), [0, 0], [out, input]) as Tensor2D,
    like: dense,
  }
}

/** W + [Cᵀ Cᵀ ...]: every r-th column moves alike, C zero at first  —  Kang & Yin, arXiv:2409.15371 */
export const miss = (options: MissOptions = {}): Adapter<MissState> => {
  const { rank = 64, mini, dropout = 0 } = options
  mustBeChance('miss: dropout', dropout)
  return {
    name: 'miss',
    options: { ...options },
    init: (site) => {
      const [out, input] = site.weight!.shape
      mustBeWhole(site.name, 'rank', rank)
      if (rank > input) throw new Error(`${site.name}: rank ${rank} exceeds its ${input} inputs; lower rank`)
      if (mini !== undefined) mustBeWhole(site.name, 'mini', mini)
      if (mini !== undefined && out % mini)
        throw new Error(`${site.name}: mini ${mini} does not divide its ${out} outputs; take a divisor of them`)
      return { state: { c: zeros([rank, mini ?? out]) as Tensor2D } }
    },
    weight: (base, { c }, ctx) => {
      const [out, input] = base.shape
      const all = tile(c, [1, out / c.shape[1]]) as Tensor2D // [r, out]
      return sum(base, droppedWhile(ctx, dropout, repeated(all, input)))
    },
  }
}
