import { balanced, type Matrix, maxAbs, requireFinite, requireSquare } from './matrix.ts'
import { accumulate, axpy, dot, reflector, rotate } from './reflector.ts'
import { routines } from './routines.ts'

/** A = V·diag(values)·Vᵀ: values [n] rising, V [n, n] with a vector per column */
export interface Eigh {
  readonly values: Float64Array
  readonly vectors: Matrix
}

/** Refuses what is not symmetric to 1e-5 of its largest entry (single-precision products pass); the mean of both halves. */
const symmetrized = (a: Matrix): Matrix => {
  const n = a.rows
  const limit = 1e-5 * maxAbs(a)
  const data = a.data.slice()
  for (let i = 0; i < n; i++)
    for (let j = 0; j < i; j++) {
      const [below, above] = [data[i * n + j]!, data[j * n + i]!]
      if (Math.abs(below / 2 - above / 2) > limit)
        throw new Error(`eigh: [${i}, ${j}] is ${below} but [${j}, ${i}] is ${above}; give a symmetric matrix, or svd`)
      data[i * n + j] = data[j * n + i] = below / 2 + above / 2
    }
  return { rows: n, cols: n, data }
}

/** A → QTQᵀ with T tridiagonal (d, e: e[i] between d[i] and d[i + 1]); Qᵀ row by row. */
const tridiagonalize = (data: Float64Array, n: number) => {
  const d = new Float64Array(n)
  const e = new Float64Array(n)
  const vectors = new Float64Array(n * n)
  const taus = new Float64Array(n)
  const w = new Float64Array(n)
  for (let k = 0; k < n; k++) {
    d[k] = data[k * n + k]!
    if (k + 1 === n) break
    const v = vectors.subarray(k * n, (k + 1) * n)
    for (let j = k + 1; j < n; j++) v[j] = data[k * n + j]!
    const [tau, beta] = reflector(v, k + 1, n)
    taus[k] = tau
    e[k] = beta
    if (tau === 0) continue
    // A − vwᵀ − wvᵀ, w = τAv − ½τ(τvᵀAv)v
    for (let i = k + 1; i < n; i++) w[i] = tau * dot(data, i * n, v, 0, k + 1, n)
    axpy(-0.5 * tau * dot(w, 0, v, 0, k + 1, n), v, 0, w, 0, k + 1, n)
    for (let i = k + 1; i < n; i++) {
      const [vi, wi] = [v[i]!, w[i]!]
      for (let j = k + 1, at = i * n + k + 1; j < n; j++, at++) data[at]! -= vi * w[j]! + wi * v[j]!
    }
  }
  return { d, e, qt: accumulate(vectors, taus, n, n, 1) }
}

/** Diagonalizes T by implicit QL steps with Wilkinson's shift — Golub & Van Loan, Matrix Computations, 8.3. */
const diagonalize = (d: Float64Array, e: Float64Array, qt: Float64Array, n: number): void => {
  let norm = 0
  for (let i = 0; i < n; i++) norm = Math.max(norm, Math.abs(d[i]!) + Math.abs(e[i]!))
  const tiny = 2 ** -104 * norm
  for (let lo = 0; lo < n; lo++) {
    for (let steps = 0; ; steps++) {
      if (steps > 100) throw new Error(`eigh: no convergence at eigenvalue ${lo} of ${n}; report the matrix`)
      let hi = lo
      for (; hi < n - 1; hi++)
        if (Math.abs(e[hi]!) <= Math.max(tiny, 2 ** -52 * (Math.abs(d[hi]!) + Math.abs(d[hi + 1]!)))) break
      if (hi === lo) break
      // shift: the eigenvalue of T's first 2×2 nearer to d[lo]
      const half = (d[lo + 1]! - d[lo]!) / (2 * e[lo]!)
      const root = Math.hypot(half, 1)
      let g = d[hi]! - d[lo]! + e[lo]! / (half + (half < 0 ? -root : root))
      let [c, s, p] = [1, 1, 0]
      for (let i = hi - 1; i >= lo; i--) {
        const f = s * e[i]!
        const b = c * e[i]!
        const r = Math.hypot(f, g)
        e[i + 1] = r
        ;[c, s] = r === 0 ? [1, 0] : [g / r, f / r]
        g = d[i + 1]! - p
        const t = (d[i]! - g) * s + 2 * c * b
        p = s * t
        d[i + 1] = g + p
        g = c * t - b
        rotate(qt, (i + 1) * n, i * n, n, c, s)
      }
      d[lo]! -= p
      e[lo] = g
      e[hi] = 0
    }
  }
}

/**
 * Eigenvalues and vectors of a symmetric A [n, n] of any rank. Householder tridiagonalization, then implicit QL:
 * Golub & Van Loan, Matrix Computations, 8.3; a system LAPACK's `syevd` after `useLapack()`.
 * Throws on NaN, infinities and what is not symmetric.
 */
export const eigh = (a: Matrix): Eigh => {
  requireSquare('eigh', a)
  requireFinite('eigh', a)
  const n = a.rows
  const even = symmetrized(a)
  const native = n > 0 ? routines.eigh?.(even) : undefined
  if (native) return native
  const { data, undo } = balanced(even)
  const { d, e, qt } = tridiagonalize(data, n)
  diagonalize(d, e, qt, n)
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => d[i]! - d[j]! || i - j)
  const vectors = new Float64Array(n * n)
  order.forEach((from, to) => {
    for (let i = 0; i < n; i++) vectors[i * n + to] = qt[from * n + i]!
  })
  return { values: Float64Array.from(order, (i) => d[i]! * undo), vectors: { rows: n, cols: n, data: vectors } }
}
