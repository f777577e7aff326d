import { type Matrix, requireFinite, requireSquare } from './matrix.ts'
import { dot } from './reflector.ts'
import { routines } from './routines.ts'
import { solveTriangular } from './triangular.ts'

export interface CholeskyOptions {
  /** added to the diagonal, as a part of the diagonal's mean size */
  jitter?: number
}

/**
 * L [n, n] lower triangular with LLᵀ = A + jitter·mean|diag A|·I; reads A's lower half.
 * — Golub & Van Loan, Matrix Computations, 4.2. Throws where A is not positive definite, naming the pivot.
 */
export const cholesky = (a: Matrix, { jitter = 0 }: CholeskyOptions = {}): Matrix => {
  requireSquare('cholesky', a)
  requireFinite('cholesky', a)
  const n = a.rows
  const l = new Float64Array(n * n)
  for (let i = 0; i < n; i++) l.set(a.data.subarray(i * n, i * n + i + 1), i * n)
  if (jitter !== 0) {
    let mean = 0
    for (let i = 0; i < n; i++) mean += Math.abs(a.data[i * n + i]!) / n
    for (let i = 0; i < n; i++) l[i * n + i]! += jitter * mean
  }
  const out: Matrix = { rows: n, cols: n, data: l }
  const native = n > 0 ? routines.cholesky?.(out) : undefined
  if (native) return native
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++) l[i * n + j] = (l[i * n + j]! - dot(l, i * n, l, j * n, 0, j)) / l[j * n + j]!
    const pivot = l[i * n + i]! - dot(l, i * n, l, i * n, 0, i)
    if (!(pivot > 0))
      throw new Error(
        `cholesky: pivot ${i} of ${n} is ${pivot.toPrecision(3)}, so the matrix is not positive definite; ` +
          `raise jitter (now ${jitter}; 0.01 is usual for a covariance) or drop rows that depend on others`,
      )
    l[i * n + i] = Math.sqrt(pivot)
  }
  return out
}

/** X [n, k] with LLᵀX = B, L [n, n] from `cholesky`, B [n, k] */
export const choleskySolve = (l: Matrix, b: Matrix): Matrix =>
  solveTriangular(l, solveTriangular(l, b), { transposed: true })
