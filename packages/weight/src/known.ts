import type { Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add } from '@weftjs/tensor'

/** W = scale·B·A: b [out, r], a [r, in] */
export interface Factors {
  readonly b: Tensor2D
  readonly a: Tensor2D
  readonly scale: number
}
/** What is known of a weight beyond its contract, so that one pass does what `apply` does in several. */
export interface Known {
  /** W itself [out, in] */
  readonly matrix?: Tensor2D
  readonly factors?: Factors
  /** W is zero but in these places [2, k] */
  readonly sparse?: { readonly values: Tensor; readonly places: Tensor }
  /** x·Wᵀ + bias in one pass */
  readonly affine?: (x: Tensor, bias?: Tensor) => Tensor
}

// beside the weights, not in them: a copy with another `apply` is another weight, of which nothing is known
const known = new WeakMap<Weight, Known>()

export const know = (w: Weight, what: Known): Weight => {
  known.set(w, what)
  return w
}
export const knownOf = (w: Weight): Known => known.get(w) ?? {}

/** x·Wᵀ + bias, in one pass where the weight can: x [..., in], bias [out] or none → [..., out] */
export const affine = (w: Weight, x: Tensor, bias?: Tensor): Tensor => {
  const inOne = knownOf(w).affine
  if (inOne) return inOne(x, bias)
  const y = w.apply(x)
  return bias ? add(y, bias) : y
}
