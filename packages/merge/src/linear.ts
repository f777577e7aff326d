import type { Merge } from '@weftjs/spec'
import { clone, div } from '@weftjs/tensor'
import { checkWeights, NO_DIVISOR, weigh } from './deltas/weighted-sum.ts'

export interface LinearOptions {
  /** divide by the sum of the weights */
  readonly normalize?: boolean
}

/** Σ wᵢ·θᵢ/Σ wᵢ  —  model soups, Wortsman et al., arXiv:2203.05482 */
export const linear =
  ({ normalize = true }: LinearOptions = {}): Merge =>
  (tensors, ctx) => {
    if (!tensors.length && ctx.base) return clone(ctx.base)
    if (!tensors.length) throw new Error(`${ctx.name}: linear: there is no model to merge`)
    checkWeights(tensors, ctx)
    const total = ctx.weights.reduce((a, b) => a + b, 0)
    if (normalize && Math.abs(total) < NO_DIVISOR)
      throw new Error(
        `${ctx.name}: linear: the weights ${ctx.weights.join(', ')} sum to 0; change them, or set normalize: false`,
      )
    const merged = weigh(tensors, ctx.weights)
    if (!normalize) return merged
    const mean = div(merged, total)
    merged.dispose()
    return mean
  }
