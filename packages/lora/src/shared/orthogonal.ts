import type { Tensor } from '@weftjs/spec'
import { eye, matMul, maximum, sqrt, square, sub, sum } from '@weftjs/tensor'

/** ‖T·Tᵀ − I‖ over the rows of t [r, n], smooth at zero */
export const skewness = (t: Tensor): Tensor => {
  const off = sub(matMul(t, t, false, true), eye(t.shape[0]!)) // [r, r]
  return sqrt(maximum(sum(square(off)), 1e-24))
}
