import { type Matrix, requireFinite, requireSquare } from './matrix.ts'
import { axpy, dot } from './reflector.ts'

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
  /** x[to] −= f·x[from] */
  const take = (f: number, from: number, to: number): void => {
    if (f !== 0) axpy(-f, x, from * k, x, to * k, 0, k)
  }
  for (let at = 0; at < n; at++) {
    const i = forward ? at : n - 1 - at
    if (!transposed) {
      const [from, to] = forward ? [0, i] : [i + 1, n]
      if (k === 1) x[i]! -= dot(t.data, i * n, x, 0, from, to)
      else for (let j = from; j < to; j++) take(t.data[i * n + j]!, j, i)
    }
    if (!unit) {
      const pivot = t.data[i * n + i]!
      if (pivot === 0 || Number.isNaN(pivot))
        throw new Error(`solveTriangular: pivot ${i} of ${n} is ${pivot}: the matrix is singular; use lstsq`)
      for (let c = 0; c < k; c++) x[i * k + c]! /= pivot
    }
    if (!transposed) continue
    // what is known goes out of the other rows, so that T is read by rows here as well
    const [from, to] = forward ? [i + 1, n] : [0, i]
    if (k === 1) axpy(-x[i]!, t.data, i * n, x, 0, from, to)
    else for (let j = from; j < to; j++) take(t.data[i * n + j]!, i, j)
  }
  return { rows: n, cols: k, data: x }
}
