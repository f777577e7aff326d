import { type Matrix, matrix } from '@weftjs/tensor/linalg'

export interface Ldu {
  /** P·L: unit lower triangular but for the order of its rows [rows, r] */
  readonly l: Matrix
  /** pivots [r] */
  readonly d: Float64Array
  /** unit upper triangular [r, cols] */
  readonly u: Matrix
  /** the row that each pivot came from [r] */
  readonly rows: Int32Array
}

/**
 * The first r steps of A = P·L·diag(d)·U by partial pivoting, A [m, n] of any shape: column by column (Crout), so that it
 * costs (m + n)·r²/2 steps and not the whole elimination. It stops before a pivot that is as good as zero beside the largest.
 */
export const ldu = (a: Matrix, r: number): Ldu => {
  const [m, n] = [a.rows, a.cols]
  const [l, u] = [matrix(m, r), matrix(r, n)]
  const d = new Float64Array(r)
  const rows = new Int32Array(r)
  const taken = new Uint8Array(m)
  let largest = 0
  for (let k = 0; k < r; k++) {
    let p = -1
    // column k of what is left: A − L·diag(d)·U over the steps so far
    for (let i = 0; i < m; i++) {
      if (taken[i]) continue
      let v = a.data[i * n + k]!
      for (let j = 0; j < k; j++) v -= l.data[i * r + j]! * d[j]! * u.data[j * n + k]!
      l.data[i * r + k] = v
      if (p < 0 || Math.abs(v) > Math.abs(l.data[p * r + k]!)) p = i
    }
    const pivot = l.data[p * r + k]!
    if (!(Math.abs(pivot) > 1e-10 * largest))
      return {
        l: columns(l, k),
        d: d.slice(0, k),
        u: { rows: k, cols: n, data: u.data.slice(0, k * n) },
        rows: rows.slice(0, k),
      }
    largest = Math.max(largest, Math.abs(pivot))
    d[k] = pivot
    rows[k] = p
    taken[p] = 1
    for (let c = k; c < n; c++) u.data[k * n + c] = a.data[p * n + c]!
    for (let j = 0; j < k; j++) {
      const f = l.data[p * r + j]! * d[j]!
      for (let c = k; c < n; c++) u.data[k * n + c]! -= f * u.data[j * n + c]!
    }
    for (let c = k; c < n; c++) u.data[k * n + c]! /= pivot
    for (let i = 0; i < m; i++) if (!taken[i]) l.data[i * r + k]! /= pivot
    l.data[p * r + k] = 1
  }
  return { l, d, u, rows }
}

const columns = ({ rows, cols, data }: Matrix, count: number): Matrix => {
  const out = matrix(rows, count)
  for (let i = 0; i < rows; i++) out.data.set(data.subarray(i * cols, i * cols + count), i * count)
  return out
}
