import { type Matrix, requireFinite, requireSquare } from './matrix.ts'
import { axpy } from './reflector.ts'

export interface SolveTriangularOptions {
  /** T is upper triangular; lower otherwise. The other half of `t` is not read. */
  upper?: boolean
  /** solves TᵀX = B */
  transposed?: boolean
  /** T's diagonal counts as ones and is not read */
  unit?: boolean
}

/** X [n, k] with TX = B, T [n, n] triangular, B [n, k]. Throws where the diagonal has a zero. */
export const solveTriangular = (
  t: Matrix,
  b: Matrix,
  { upper = false, transposed = false, unit = false }: SolveTriangularOptions = {},
): Matrix => {
  requireSquare('solveTriangular', t)
  const n = t.rows
  if (b.rows !== n)
    throw new Error(`solveTriangular: [${n}, ${n}] and [${b.rows}, ${b.cols}] do not fit; b needs ${n} rows`)
  requireFinite('solveTriangular', b)
  const k = b.cols
  const x = b.data.slice()
  const forward = upper === transposed
  for (let at = 0; at < n; at++) {
    const i = forward ? at : n - 1 - at
    const [from, to] = forward ? [0, i] : [i + 1, n]
    for (let j = from; j < to; j++) {
      const f = transposed ? t.data[j * n + i]! : t.data[i * n + j]!
      if (f !== 0) axpy(-f, x, j * k, x, i * k, 0, k)
    }
    if (unit) continue
    const pivot = t.data[i * n + i]!
    if (pivot === 0 || Number.isNaN(pivot))
      throw new Error(`solveTriangular: pivot ${i} of ${n} is ${pivot}: the matrix is singular; use lstsq`)
    for (let c = 0; c < k; c++) x[i * k + c]! /= pivot
  }
  return { rows: n, cols: k, data: x }
}
