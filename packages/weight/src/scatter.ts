import type { Tensor, Tensor1D, Tensor2D, Weight } from '@weftjs/spec'
import { addAt, linearSparse, zeros } from '@weftjs/tensor'
import { dense } from './dense.ts'
import { know } from './known.ts'

/**
 * S, zero but for k numbers: `values` [k], of which number i stands in row places[0, i] and column places[1, i] of `places`
 * [2, k] int32; what meets in one place adds up. Gradients of the values are gathered, and no [out, in] outlives a product.
 */
export const scatter = (shape: readonly [number, number], places: Tensor, values: Tensor1D): Weight => {
  if (places.rank !== 2 || places.shape[0] !== 2 || places.shape[1] !== values.size)
    throw new Error(
      `scatter: places [${places.shape}] of [${values.shape}] values; places are [2, k], rows and columns`,
    )
  const [out, input] = shape
  const whole = (): Tensor2D => addAt(zeros([out, input]), values, places) as Tensor2D
  const weight: Weight = {
    shape: [out, input],
    format: 'scatter',
    parts: { places, values },
    apply: (x) => linearSparse(x, values, places, [out, input]),
    dense: whole,
    like: dense,
  }
  const affine = (x: Tensor, bias?: Tensor): Tensor => linearSparse(x, values, places, [out, input], undefined, bias)
  return know(weight, { sparse: { values, places }, affine })
}
