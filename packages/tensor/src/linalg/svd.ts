import { balanced, type Matrix, multiply, requireFinite, transpose } from './matrix.ts'
import { qr } from './qr.ts'
import { accumulate, addRows, axpy, dot, reflector, rotate } from './reflector.ts'
import { routines } from './routines.ts'

/** A = U·diag(s)·Vᵀ: U [m, k], s [k] falling, V [n, k], k = min(m, n) */
export interface Svd {
  readonly u: Matrix
  readonly s: Float64Array
  readonly v: Matrix
}

const EPS = 2 ** -52

/** A [m, n], m ≥ n → U₁BV₁ᵀ with B upper bidiagonal (d, e); U₁ᵀ [n, m] and V₁ᵀ [n, n] row by row. */
const bidiagonalize = (data: Float64Array, m: number, n: number) => {
  const d = new Float64Array(n)
  const e = new Float64Array(n)
  const left = new Float64Array(n * m)
  const right = new Float64Array(n * n)
  const tauLeft = new Float64Array(n)
  const tauRight = new Float64Array(n)
  const w = new Float64Array(n)
  for (let k = 0; k < n; k++) {
    const v = left.subarray(k * m, (k + 1) * m)
    for (let i = k; i < m; i++) v[i] = data[i * n + k]!
    const [tau, beta] = reflector(v, k, m)
    tauLeft[k] = tau
    d[k] = beta
    w.fill(0, k + 1)
    if (tau !== 0) {
      addRows(v, data, m, n, w, k, k + 1)
      axpy(-tau, w, 0, data, k * n, k + 1, n)
    }
    if (k + 1 === n) break
    const x = right.subarray(k * n, (k + 1) * n)
    for (let j = k + 1; j < n; j++) x[j] = data[k * n + j]!
    const [tauX, betaX] = reflector(x, k + 1, n)
    tauRight[k] = tauX
    e[k] = betaX
    for (let i = k + 1; i < m; i++) {
      const f = -tau * v[i]!
      if (f !== 0) axpy(f, w, 0, data, i * n, k + 1, n)
      if (tauX !== 0) axpy(-tauX * dot(data, i * n, x, 0, k + 1, n), x, 0, data, i * n, k + 1, n)
    }
  }
  return { d, e, ut: accumulate(left, tauLeft, n, m), vt: accumulate(right, tauRight, n, n, 1) }
}

/**
 * Diagonalizes B (d, e: e[i] beside d[i] and above d[i + 1]) by implicit-shift QR steps on its unreduced pieces,
 * turning the rows of ut and vt along — Golub & Van Loan, Matrix Computations, 8.6.
 */
const diagonalize = (
  d: Float64Array,
  e: Float64Array,
  ut: Float64Array,
  m: number,
  vt: Float64Array,
  n: number,
): void => {
  let norm = 0
  for (let i = 0; i < n; i++) norm = Math.max(norm, Math.abs(d[i]!) + Math.abs(e[i]!))
  const negligible = EPS * norm
  let hi = n - 1
  for (let steps = 0; hi > 0; steps++) {
    if (steps > 75 * n)
      throw new Error(`svd: no convergence after ${steps} steps on a matrix of rank up to ${n}; report the matrix`)
    for (let i = 0; i < hi; i++) {
      const near = EPS * (Math.abs(d[i]!) + Math.abs(d[i + 1]!))
      if (Math.abs(e[i]!) <= Math.max(near, negligible * EPS)) e[i] = 0
    }
    if (e[hi - 1] === 0) {
      hi--
      continue
    }
    let lo = hi - 1
    while (lo > 0 && e[lo - 1] !== 0) lo--
    let zero = hi
    while (zero >= lo && Math.abs(d[zero]!) > negligible) zero--
    if (zero < lo) step(d, e, lo, hi, ut, m, vt, n)
    else if (zero === hi) clearColumn(d, e, lo, hi, vt, n)
    else clearRow(d, e, zero, hi, ut, m)
  }
}

/** d[hi] = 0: rotations of columns push e[hi − 1] up and out. */
const clearColumn = (d: Float64Array, e: Float64Array, lo: number, hi: number, vt: Float64Array, n: number): void => {
  d[hi] = 0
  let f = e[hi - 1]!
  e[hi - 1] = 0
  for (let i = hi - 1; i >= lo && f !== 0; i--) {
    const r = Math.hypot(d[i]!, f)
    const [c, s] = [d[i]! / r, f / r]
    d[i] = r
    if (i > lo) {
      f = -s * e[i - 1]!
      e[i - 1]! *= c
    }
    rotate(vt, i * n, hi * n, n, c, s)
  }
}

/** d[at] = 0 inside a piece: rotations of rows push e[at] right and out. */
const clearRow = (d: Float64Array, e: Float64Array, at: number, hi: number, ut: Float64Array, m: number): void => {
  d[at] = 0
  let f = e[at]!
  e[at] = 0
  for (let i = at + 1; i <= hi && f !== 0; i++) {
    const r = Math.hypot(d[i]!, f)
    const [c, s] = [d[i]! / r, f / r]
    d[i] = r
    if (i < hi) {
      f = -s * e[i]!
      e[i]! *= c
    }
    rotate(ut, i * m, at * m, m, c, s)
  }
}

/** One QR step on B[lo..hi], shifted by the eigenvalue of the last 2×2 of BᵀB that is nearer to its corner. */
const step = (
  d: Float64Array,
  e: Float64Array,
  lo: number,
  hi: number,
  ut: Float64Array,
  m: number,
  vt: Float64Array,
  n: number,
): void => {
  // all relative to the largest entry near the ends, so that squares neither overflow nor vanish
  const scale = Math.max(
    Math.abs(d[hi]!),
    Math.abs(d[hi - 1]!),
    Math.abs(e[hi - 1]!),
    Math.abs(d[lo]!),
    Math.abs(e[lo]!),
  )
  const [p, q, g] = [d[hi - 1]! / scale, d[hi]! / scale, e[hi - 1]! / scale]
  const above = hi - 1 > lo ? e[hi - 2]! / scale : 0
  const corner = q * q + g * g
  const half = (p * p + above * above - corner) / 2
  const off = p * g
  const root = Math.hypot(half, off)
  const shift = off === 0 ? corner : corner - (off * off) / (half + (half < 0 ? -root : root))
  const head = d[lo]! / scale
  let y = head * head - shift
  let z = (head * e[lo]!) / scale
  for (let i = lo; i < hi; i++) {
    let r = Math.hypot(y, z)
    let [c, s] = r === 0 ? [1, 0] : [y / r, z / r]
    if (i > lo) e[i - 1] = r
    y = c * d[i]! + s * e[i]!
    e[i] = c * e[i]! - s * d[i]!
    z = s * d[i + 1]!
    d[i + 1]! *= c
    rotate(vt, i * n, (i + 1) * n, n, c, s)
    r = Math.hypot(y, z)
    ;[c, s] = r === 0 ? [1, 0] : [y / r, z / r]
    d[i] = r
    y = c * e[i]! + s * d[i + 1]!
    d[i + 1] = c * d[i + 1]! - s * e[i]!
    e[i] = y
    rotate(ut, i * m, (i + 1) * m, m, c, s)
    if (i < hi - 1) {
      z = s * e[i + 1]!
      e[i + 1]! *= c
    }
  }
}

/**
 * Thin SVD of A [m, n] of any rank, zero too: ‖A − U·diag(s)·Vᵀ‖ near eps·‖A‖, s falling and at least 0.
 * Householder bidiagonalization, then implicit QR: Golub & Van Loan, Matrix Computations, 8.6; a system LAPACK's
 * `gesdd` after `useLapack()`. Throws on NaN and infinities.
 */
export const svd = (a: Matrix): Svd => {
  requireFinite('svd', a)
  const { rows: m, cols: n } = a
  if (m > 0 && n > 0) {
    const native = routines.svd?.(a)
    if (native) return native
  }
  if (m < n) {
    const { u, s, v } = svd(transpose(a))
    return { u: v, s, v: u }
  }
  if (m > 1.6 * n && n > 0) {
    const { q, r } = qr(a)
    const { u, s, v } = svd(r)
    return { u: multiply(q, u), s, v }
  }
  const { data, undo } = balanced(a)
  const { d, e, ut, vt } = bidiagonalize(data, m, n)
  diagonalize(d, e, ut, m, vt, n)
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => Math.abs(d[j]!) - Math.abs(d[i]!) || i - j)
  const u = new Float64Array(m * n)
  const v = new Float64Array(n * n)
  const s = new Float64Array(n)
  order.forEach((from, to) => {
    const sign = d[from]! < 0 ? -1 : 1
    s[to] = Math.abs(d[from]!) * undo
    for (let i = 0; i < m; i++) u[i * n + to] = ut[from * m + i]!
    for (let i = 0; i < n; i++) v[i * n + to] = sign * vt[from * n + i]!
  })
  return { u: { rows: m, cols: n, data: u }, s, v: { rows: n, cols: n, data: v } }
}
