import { identity, type Matrix, requireFinite, requireSquare } from './matrix.ts'
import { axpy } from './reflector.ts'
import { routines } from './routines.ts'
import { solveTriangular } from './triangular.ts'

/** Row `permutation[i]` of A [n, n] is row i of LU. */
export interface Lu {
  /** U, and L below the diagonal; L's diagonal is ones */
  readonly packed: Matrix
  readonly permutation: Int32Array
  /** of the permutation: 1 or -1 */
  readonly sign: number
}

/** Row swaps, one per step → the permutation that they make, and its sign. */
const swaps = (pivots: Int32Array): { permutation: Int32Array; sign: number } => {
  const permutation = Int32Array.from(pivots, (_, i) => i)
  let sign = 1
  pivots.forEach((p, i) => {
    if (p === i) return
    ;[permutation[i], permutation[p]] = [permutation[p]!, permutation[i]!]
    sign = -sign
  })
  return { permutation, sign }
}

/**
 * PA = LU with partial pivoting; A [n, n] may be singular, which leaves a zero on U's diagonal.
 * — Golub & Van Loan, Matrix Computations, 3.4. Throws on NaN and infinities.
 */
export const lu = (a: Matrix): Lu => {
  requireSquare('lu', a)
  requireFinite('lu', a)
  const n = a.rows
  const native = n > 0 ? routines.lu?.(a) : undefined
  if (native) return { packed: native.packed, ...swaps(native.pivots) }
  const data = a.data.slice()
  const pivots = new Int32Array(n)
  for (let k = 0; k < n; k++) {
    let p = k
    for (let i = k + 1; i < n; i++) if (Math.abs(data[i * n + k]!) > Math.abs(data[p * n + k]!)) p = i
    pivots[k] = p
    if (p !== k) {
      const row = data.slice(k * n, (k + 1) * n)
      data.copyWithin(k * n, p * n, (p + 1) * n)
      data.set(row, p * n)
    }
    const pivot = data[k * n + k]!
    if (pivot === 0) continue
    for (let i = k + 1; i < n; i++) {
      const f = data[i * n + k]! / pivot
      data[i * n + k] = f
      if (f !== 0) axpy(-f, data, k * n, data, i * n, k + 1, n)
    }
  }
  return { packed: { rows: n, cols: n, data }, ...swaps(pivots) }
}

/** X [n, k] with AX = B, from A's `lu`; B [n, k]. Throws where A is singular. */
export const luSolve = ({ packed, permutation }: Lu, b: Matrix): Matrix => {
  const n = packed.rows
  if (b.rows !== n) throw new Error(`luSolve: [${n}, ${n}] and [${b.rows}, ${b.cols}] do not fit; b needs ${n} rows`)
  const data = new Float64Array(n * b.cols)
  permutation.forEach((from, to) => {
    data.set(b.data.subarray(from * b.cols, (from + 1) * b.cols), to * b.cols)
  })
  const y = solveTriangular(packed, { rows: n, cols: b.cols, data }, { unit: true })
  return solveTriangular(packed, y, { upper: true })
}

/** X [n, k] with AX = B, A [n, n], B [n, k]. Throws where A is singular; `lstsq` takes any A. */
export const solve = (a: Matrix, b: Matrix): Matrix => luSolve(lu(a), b)

/** A⁻¹. Throws where A [n, n] is singular. */
export const inverse = (a: Matrix): Matrix => solve(a, identity(a.rows))

/** det A, A [n, n]; exactly 0 where elimination meets a zero column */
export const determinant = (a: Matrix): number => {
  const { packed, sign } = lu(a)
  let out = sign
  for (let i = 0; i < packed.rows; i++) out *= packed.data[i * packed.rows + i]!
  return out
}
