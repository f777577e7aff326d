import type { Merge } from '@weftjs/spec'
import { onDeltas } from './deltas/on-deltas.ts'
import { weightedSum } from './deltas/weighted-sum.ts'

export interface TaskArithmeticOptions {
  /** λ */
  readonly lambda?: number
  /** divide by the sum of the weights */
  readonly normalize?: boolean
}

/** θ₀ + λ·Σ wᵢ·τᵢ, τᵢ = θᵢ − θ₀  —  Ilharco et al., arXiv:2212.04089 */
export const taskArithmetic = ({ lambda = 1, normalize = false }: TaskArithmeticOptions = {}): Merge =>
  onDeltas(undefined, weightedSum(normalize), lambda)
