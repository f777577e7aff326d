import { eigh } from './eigh.ts'
import { balanced, type Matrix, matrix, multiply, requireFinite, transpose } from './matrix.ts'
import { type Svd, svd } from './svd.ts'

/** least of σ²ₖ/σ²₁ at which Uᵀ·U is the identity to 10⁻⁶ */
const LEAST = 1e-9

/**
 * The SVD of a matrix of single precision, A [m, n] of any shape, by the eigenvectors V of its smaller Gram matrix (here
 * AᵀA = V·diag(σ²)·Vᵀ) and U = A·V/σ, in half the time of `svd`. U·diag(σ)·Vᵀ is A to the rounding of double precision, U
 * orthogonal to eps·σ²₁/(σᵢ·σⱼ): a matrix whose least singular value is below 3·10⁻⁵ of the largest is left to `svd`. Throws as that.
 */
export const gramSvd = (a: Matrix): Svd => {
  requireFinite('gramSvd', a)
  const { rows: m, cols: n } = a
  if (m === 0 || n === 0) return svd(a)
  if (m < n) {
    const { u, s, v } = gramSvd(transpose(a))
    return { u: v, s, v: u }
  }
  const { data, undo } = balanced(a) // so that squares neither overflow nor vanish
  const x = matrix(m, n, data)
  const { values, vectors } = eigh(multiply(transpose(x), x))
  if (!(values[0]! > LEAST * values[n - 1]!)) return svd(a)
  const s = values.toReversed().map(Math.sqrt)
  const v = matrix(n, n)
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) v.data[i * n + j] = vectors.data[i * n + n - 1 - j]!
  const u = multiply(x, v)
  for (let i = 0; i < m; i++) for (let j = 0; j < n; j++) u.data[i * n + j]! /= s[j]!
  return { u, s: s.map((value) => value * undo), v }
}
