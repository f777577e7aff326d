import type { Params, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { eye, transpose } from '@weftjs/tensor'
import { dense } from './dense.ts'

/**
 * A weight from what it does to a vector: `apply` x [..., in] → [..., out] is linear in x and reads no tensor that trains
 * but `parts`. Its dense form is what `apply` makes of the identity.
 */
export const mapped = (
  shape: readonly [out: number, input: number],
  parts: Params,
  apply: (x: Tensor) => Tensor,
): Weight => ({
  shape,
  format: 'mapped',
  parts,
  apply,
  dense: () => transpose(apply(eye(shape[1]))) as Tensor2D,
  like: dense,
})
