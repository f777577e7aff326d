import type { Adapter, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, reshape, zeros } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { type Fastfood, fastfood, orderOf, paddedSize, project } from './shared/fastfood.ts'
import { mustBeWhole } from './shared/start.ts'

export interface DidOptions {
  /** d, all that trains, whatever the network's size */
  readonly dimension?: number
}
export type DidState = Fastfood

/** numbers that train at a site: none of its own; θ [d] is common to all */
export const trainable = (): number => 0

/** W + Δ as one matrix: the update has as many numbers as W, so that one product serves both */
export const shifted = (base: Weight, delta: Tensor): Weight => ({
  ...dense(add(base.dense(), reshape(delta, [...base.shape])) as Tensor2D),
  like: base.like,
})

/**
 * Wᵢ + Pᵢ·θ, one θ of d numbers for all matrices and Pᵢ a fixed random projection  —  Aghajanyan et al., arXiv:2012.13255
 *
 * Matrices only: norms and biases stay. Each needs a tensor of its own size for Pᵢ, drawn again from the seed and the
 * site's name wherever the adapter is attached, and in a pass a transform of n·log n steps and three runs through its
 * numbers, as many backward: more than LoRA's step by the mathematics, which changes every number of the network.
 */
export const did = (options: DidOptions = {}): Adapter<DidState> => {
  const { dimension: d = 1000 } = options
  mustBeWhole('did', 'dimension', d)
  return {
    name: 'did',
    options: { ...options },
    init: (site, { rng, shared }) => {
      shared('theta', () => zeros([d]), { trains: true })
      const [out, input] = site.weight!.shape
      const L = paddedSize(d, out * input)
      shared(`order${L}`, (random) => orderOf(random, d, L))
      return { state: fastfood(rng, d, out * input), trains: [] }
    },
    weight: (base, state, { shared }) => {
      const size = base.shape[0] * base.shape[1]
      return shifted(base, project(shared['theta']!, state, shared[`order${paddedSize(d, size)}`]!, size))
    },
  }
}

/**
 * d₉₀: the smallest dimension of a sweep whose metric (higher is better) reaches a share of full tuning's, undefined where
 * none does. Nothing is interpolated.
 */
export const intrinsicDimension = (
  sweep: readonly { readonly dimension: number; readonly metric: number }[],
  full: number,
  share = 0.9,
): number | undefined => {
  if (!(full > 0)) throw new Error(`intrinsicDimension: the metric of full tuning must be positive, found ${full}`)
  const enough = sweep.filter(({ metric }) => metric >= share * full).map(({ dimension }) => dimension)
  return enough.length ? Math.min(...enough) : undefined
}
