import type { Merge } from '@weftjs/spec'
import { electSign } from './deltas/elect-sign.ts'
import { onDeltas } from './deltas/on-deltas.ts'
import { topMagnitude } from './deltas/top-magnitude.ts'

export interface TiesOptions {
  /** share of each change that is kept, by magnitude; one for all models or one for each */
  readonly density?: number | readonly number[]
  /** λ */
  readonly lambda?: number
  /** divide each entry by the sum of the weights that agree on its sign */
  readonly normalize?: boolean
}

/** Trim, elect a sign for each entry, and average what agrees with it  —  Yadav et al., arXiv:2306.01708 */
export const ties = ({ density = 1, lambda = 1, normalize = true }: TiesOptions = {}): Merge =>
  onDeltas(topMagnitude(density), electSign(normalize), lambda)
