import { eigh } from './eigh.ts'
import { balanced, gram, type Matrix, matrix, maxAbs, multiply, requireFinite, transpose } from './matrix.ts'
import { type Svd, svd } from './svd.ts'

/** least of σ²ₖ/σ²₁ at which the identity is met to 10⁻⁶ */
const LEAST = 1e-9
/** between its inverse and this, squares neither overflow nor vanish */
const FAR = 1e100

/**
 * The SVD of a matrix of single precision, A [m, n] of any shape, by the eigenvectors of its smaller Gram matrix: where
 * AᵀA = V·diag(σ²)·Vᵀ, U = A·V/σ, in half the time of `svd`. U·diag(σ)·Vᵀ is A to the rounding of double precision; UᵀU the
 * identity to eps·σ²₁/(σᵢ·σⱼ), so that where the least is below 3·10⁻⁵ of the largest `svd` is called. Throws as that.
 */
export const gramSvd = (a: Matrix): Svd => {
  requireFinite('gramSvd', a)
  const [tall, top] = [a.rows >= a.cols, maxAbs(a)]
  if (top === 0) return svd(a)
  const near = top < FAR && top > 1 / FAR
  const { data, undo } = near ? { data: a.data, undo: 1 } : balanced(a)
  const x = matrix(a.rows, a.cols, data)
  const { values, vectors } = eigh(gram(x, tall ? 'columns' : 'rows'))
  const k = values.length
  if (!(values[0]! > LEAST * values[k - 1]!)) return svd(a)
  const s = values.toReversed().map(Math.sqrt)
  const own = matrix(k, k)
  for (let i = 0; i < k; i++) for (let j = 0; j < k; j++) own.data[i * k + j] = vectors.data[i * k + k - 1 - j]!
  const other = tall ? multiply(x, own) : transpose(multiply(transpose(own), x))
  for (let i = 0; i < other.rows; i++) for (let j = 0; j < k; j++) other.data[i * k + j]! /= s[j]!
  const [u, v] = tall ? [other, own] : [own, other]
  return { u, s: s.map((value) => value * undo), v }
}
