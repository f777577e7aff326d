import type { Rng } from '@weftjs/spec'
import { identity, leadingColumns, type Matrix, multiply, requireFinite, transpose } from './matrix.ts'
import { qr } from './qr.ts'
import { type Svd, svd } from './svd.ts'

export interface RandomizedSvdOptions {
  /** columns of the sketch beyond the rank */
  oversample?: number
  /** passes over A·Aᵀ that sharpen a slowly falling spectrum */
  iterations?: number
  rng: Pick<Rng, 'numbers'>
}

/** A matrix that need not be made: what it does to others tells all that a sketch asks. */
export interface Product {
  readonly rows: number
  readonly cols: number
  /** A·X */
  times(x: Matrix): Matrix
  /** Aᵀ·X */
  transposedTimes(x: Matrix): Matrix
}

/** A, and Aᵀ·X by rows of A as it lies */
const productOf = (a: Matrix): Product => ({
  rows: a.rows,
  cols: a.cols,
  times: (x) => multiply(a, x),
  transposedTimes: (x) => transpose(multiply(transpose(x), a)),
})

/** A itself, made where it is a product */
export const asMatrix = (a: Matrix | Product): Matrix => ('data' in a ? a : a.times(identity(a.cols)))

/** n standard normal numbers by Box and Muller's transform of uniform ones */
const gaussian = (rng: Pick<Rng, 'numbers'>, rows: number, cols: number): Matrix => {
  const count = rows * cols
  const half = Math.ceil(count / 2)
  const uniform = rng.numbers(2 * half)
  const data = new Float64Array(2 * half)
  for (let i = 0; i < half; i++) {
    const radius = Math.sqrt(-2 * Math.log1p(-uniform[2 * i]!))
    const angle = 2 * Math.PI * uniform[2 * i + 1]!
    data[2 * i] = radius * Math.cos(angle)
    data[2 * i + 1] = radius * Math.sin(angle)
  }
  return { rows, cols, data: data.subarray(0, count) }
}

/** The first `rank` triples of an SVD. */
export const truncate = ({ u, s, v }: Svd, rank: number): Svd => ({
  u: leadingColumns(u, rank),
  s: s.slice(0, rank),
  v: leadingColumns(v, rank),
})

/**
 * The top `rank` triples of A [m, n], a matrix or a product of some: U [m, r], s [r], V [n, r], from the SVD of QᵀA,
 * Q a basis of (A·Aᵀ)ᵖ·A·Ω  —  Halko, Martinsson & Tropp, arXiv:0909.4061. Exact to rounding where A's rank is at most `rank + oversample`.
 * Throws on NaN, infinities and a rank above min(m, n).
 */
export const randomizedSvd = (
  a: Matrix | Product,
  rank: number,
  { oversample = 10, iterations = 2, rng }: RandomizedSvdOptions,
): Svd => {
  if ('data' in a) requireFinite('randomizedSvd', a)
  const most = Math.min(a.rows, a.cols)
  if (!Number.isInteger(rank) || rank < 0 || rank > most)
    throw new Error(`randomizedSvd: rank ${rank} is not in 0..min(${a.rows}, ${a.cols}) = ${most}; lower it`)
  const width = rank + oversample
  if (2 * width >= most) return truncate(svd(asMatrix(a)), rank)
  const { times, transposedTimes } = 'data' in a ? productOf(a) : a
  let { q } = qr(times(gaussian(rng, a.cols, width)))
  for (let i = 0; i < iterations; i++) q = qr(times(qr(transposedTimes(q)).q)).q
  // (QᵀA)ᵀ = AᵀQ [n, width] = V·diag(s)·Wᵀ
  const { u: v, s, v: w } = svd(transposedTimes(q))
  return truncate({ u: multiply(q, w), s, v }, rank)
}
