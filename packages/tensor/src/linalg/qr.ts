import { balanced, type Matrix, requireFinite, transpose } from './matrix.ts'
import { accumulate, addRows, axpy, reflector } from './reflector.ts'
import { routines } from './routines.ts'

/** Q [m, k], R [k, n], k = min(m, n) */
export interface Qr {
  readonly q: Matrix
  readonly r: Matrix
}

/** Flips rows of R (and columns of Q) so that R's diagonal is not negative: unique where A has full rank. */
export const positiveDiagonal = ({ q, r }: Qr): Qr => {
  for (let i = 0; i < r.rows; i++) {
    if (!(r.data[i * r.cols + i]! < 0)) continue
    for (let j = i; j < r.cols; j++) r.data[i * r.cols + j]! *= -1
    for (let j = 0; j < q.rows; j++) q.data[j * q.cols + i]! *= -1
  }
  return { q, r }
}

/**
 * A = QR, QᵀQ = I, R upper triangular with a diagonal of at least 0; A [m, n] of any rank, zero too.
 * Householder reflections: Golub & Van Loan, Matrix Computations, 5.2. Throws on NaN and infinities.
 */
export const qr = (a: Matrix): Qr => {
  requireFinite('qr', a)
  const native = routines.qr?.(a)
  if (native) return positiveDiagonal(native)
  const { rows: m, cols: n } = a
  const k = Math.min(m, n)
  const { data, undo } = balanced(a)
  const vectors = new Float64Array(k * m)
  const taus = new Float64Array(k)
  const w = new Float64Array(n)
  for (let i = 0; i < k; i++) {
    const v = vectors.subarray(i * m, (i + 1) * m)
    for (let j = i; j < m; j++) v[j] = data[j * n + i]!
    const [tau, beta] = reflector(v, i, m)
    taus[i] = tau
    data[i * n + i] = beta
    if (tau === 0) continue
    w.fill(0, i + 1)
    addRows(v, data, m, n, w, i, i + 1)
    for (let j = i; j < m; j++) axpy(-tau * v[j]!, w, 0, data, j * n, i + 1, n)
  }
  const r = new Float64Array(k * n)
  for (let i = 0; i < k; i++) for (let j = i; j < n; j++) r[i * n + j] = data[i * n + j]! * undo
  const q = transpose({ rows: k, cols: m, data: accumulate(vectors, taus, k, m) })
  return positiveDiagonal({ q, r: { rows: k, cols: n, data: r } })
}
