import type { Rng } from '@weftjs/spec'
import { type Matrix, multiply, qr, randomizedSvd, type Svd, scaleColumns, svd, transpose } from '@weftjs/tensor/linalg'
import { bySite, type Delta, stacked } from './factors.ts'

/** How much of a matrix is kept: a rank, or the smallest whose singular values hold a share of Σσ². */
export interface Size {
  readonly rank?: number
  readonly variance?: number
}

/** @throws Error for a size that is none */
export const checkSize = ({ rank, variance }: Size): void => {
  if ((rank === undefined) === (variance === undefined))
    throw new Error(`give a rank or a share of the variance, found ${rank === undefined ? 'neither' : 'both'}`)
  if (rank !== undefined && !(Number.isInteger(rank) && rank >= 1))
    throw new Error(`rank must be a whole number of at least 1, found ${rank}`)
  if (variance !== undefined && !(variance > 0 && variance <= 1))
    throw new Error(`variance must be in (0, 1], found ${variance}`)
}

/** the smallest k with σ₁² + ... + σₖ² ≥ share·total */
export const rankFor = (s: ArrayLike<number>, share: number, total?: number): number => {
  const squares = Array.from(s, (v) => v * v)
  const limit = share * (total ?? squares.reduce((a, b) => a + b, 0))
  let sum = 0
  for (const [k, v] of squares.entries()) {
    sum += v
    if (sum >= limit) return k + 1
  }
  return Math.max(1, squares.length)
}

const firstColumns = ({ rows, cols, data }: Matrix, k: number): Matrix => {
  const out = new Float64Array(rows * k)
  for (let i = 0; i < rows; i++) out.set(data.subarray(i * cols, i * cols + k), i * k)
  return { rows, cols: k, data: out }
}

/** U·diag(σ) and Vᵀ of the first k: b [out, k], a [k, in] */
export const factorsOf = ({ u, s, v }: Svd, k: number): { b: Matrix; a: Matrix } => ({
  b: scaleColumns(firstColumns(u, k), s.subarray(0, k)),
  a: transpose(firstColumns(v, k)),
})

/** SVD of Σ sᵢ·Bᵢ·Aᵢ by QR of the factors: nothing of the size of the matrix is made */
const svdOf = (delta: Delta): Svd => {
  const left = qr(scaleColumns(delta.b, new Float64Array(delta.b.cols).fill(delta.scale))) // Q [out, k], R [k, r]
  const right = qr(transpose(delta.a)) // Q [in, l], R [l, r]
  const core = svd(multiply(left.r, transpose(right.r))) // [k, l]
  return { u: multiply(left.q, core.u), s: core.s, v: multiply(right.q, core.v) }
}

/**
 * Sums of low-rank weights at each site, brought to a rank or to a share of the variance: the best approximation that
 * there is (Eckart and Young), by QR of the stacked factors.
 */
export const compress = (deltas: readonly Delta[], size: Size): readonly Delta[] => {
  checkSize(size)
  return [...bySite(deltas).values()].map((list) => {
    const one = stacked(list)
    const found = svdOf(one)
    // what is left of a sum whose rank is less than that of its factors is noise of rounding
    const real = Math.max(1, found.s.filter((v) => v > 1e-12 * found.s[0]!).length)
    const k = size.rank === undefined ? rankFor(found.s, size.variance!) : Math.min(size.rank, real)
    return { site: one.site, ...factorsOf(found, k), scale: 1 }
  })
}

/** from here on a whole SVD takes longer than its top by random projections, where few are wanted */
const LARGE = 192

/**
 * The same of a dense matrix. Large ones by random projections, whose share of the variance is measured against the whole.
 * @throws Error for a rank above min(out, in)
 */
export const compressDense = (w: Matrix, size: Size, where: string, rng: Rng): { b: Matrix; a: Matrix } => {
  checkSize(size)
  const most = Math.min(w.rows, w.cols)
  const { rank, variance } = size
  if (rank !== undefined && rank > most)
    throw new Error(`${where}: rank ${rank} exceeds min(${w.rows}, ${w.cols}); lower it`)
  if (rank !== undefined)
    return factorsOf(most <= LARGE || rank > most / 4 ? svd(w) : randomizedSvd(w, rank, { rng }), rank)
  const total = w.data.reduce((n, v) => n + v * v, 0)
  for (let k = 32; most > LARGE && k <= most / 4; k *= 2) {
    const found = randomizedSvd(w, k, { rng })
    if (found.s.reduce((n, v) => n + v * v, 0) >= variance! * total)
      return factorsOf(found, rankFor(found.s, variance!, total))
  }
  const whole = svd(w)
  return factorsOf(whole, rankFor(whole.s, variance!))
}
