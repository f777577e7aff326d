import type { MergeContext, Tensor } from '@weftjs/spec'
import { add, div, mul, tidy } from '@weftjs/tensor'
import type { Combine } from './on-deltas.ts'

/** as mergekit has it: what is nearer to zero does not divide */
export const NO_DIVISOR = 1e-8

export const checkWeights = (tensors: readonly Tensor[], { name, weights }: MergeContext): void => {
  if (weights.length !== tensors.length)
    throw new Error(`${name}: ${weights.length} weights for ${tensors.length} models; give each model one`)
}

/** Σ wᵢ·xᵢ */
export const weigh = (tensors: readonly Tensor[], weights: readonly number[]): Tensor =>
  tidy(() => tensors.map((t, i) => mul(t, weights[i]!)).reduce((sum, t) => add(sum, t)))

/** Σ wᵢ·τᵢ, divided by Σ wᵢ where `normalize` and the sum is not zero */
export const weightedSum =
  (normalize: boolean): Combine =>
  (deltas, ctx) => {
    checkWeights(deltas, ctx)
    const total = ctx.weights.reduce((a, b) => a + b, 0)
    const merged = weigh(deltas, ctx.weights)
    return normalize && Math.abs(total) >= NO_DIVISOR ? div(merged, total) : merged
  }
