import type { Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { compose, dense, scaleRows } from '@weftjs/weight'

/** B·diag(d)·A, never multiplied out to be applied: b [out, r], d [r], a [r, in] */
export const between = (b: Tensor2D, d: Tensor, a: Tensor2D): Weight => compose(dense(b), scaleRows(d, dense(a)))
