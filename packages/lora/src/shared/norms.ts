import type { Tensor2D, Weight } from '@weftjs/spec'
import { add, matMul, mul, square, sum, type Tensor, type Tensor1D, transpose } from '@weftjs/tensor'

/** ‖Wᵢ‖² of each row [out] */
export const rowSquares = (w: Weight): Tensor1D => sum(square(w.dense()), 1) as Tensor1D

/**
 * ‖Wᵢ + s·(B·A)ᵢ‖² of each row [out] from ‖Wᵢ‖², with nothing of W's size made: the cross term is Bᵢ·(A·Wᵢᵀ), the last Bᵢ·(A·Aᵀ)·Bᵢᵀ
 */
export const rowSquaresWith = (w: Weight, squares: Tensor, b: Tensor2D, a: Tensor2D, s: number): Tensor => {
  const cross = sum(mul(transpose(w.apply(a)), b), 1) // [out]
  const own = sum(mul(matMul(b, matMul(a, a, false, true)), b), 1) // [out]
  return add(squares, add(mul(cross, 2 * s), mul(own, s * s)))
}
