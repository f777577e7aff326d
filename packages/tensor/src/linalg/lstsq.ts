import { type Matrix, multiply, requireFinite, transpose } from './matrix.ts'
import { svd } from './svd.ts'

export interface LstsqOptions {
  /** singular values up to rcond·s[0] count as zero */
  rcond?: number
}

/** x [n, k], the rank that `rcond` left, A's singular values */
export interface Lstsq {
  readonly x: Matrix
  readonly rank: number
  readonly s: Float64Array
}

/**
 * The shortest X [n, k] that minimizes ‖AX − B‖, A [m, n] of any shape and rank, B [m, k]: A⁺B by the SVD.
 * — Golub & Van Loan, Matrix Computations, 5.5. `rcond` defaults to eps·max(m, n). Throws on NaN and infinities.
 */
export const lstsq = (
  a: Matrix,
  b: Matrix,
  { rcond = 2 ** -52 * Math.max(a.rows, a.cols) }: LstsqOptions = {},
): Lstsq => {
  if (a.rows !== b.rows)
    throw new Error(`lstsq: [${a.rows}, ${a.cols}] and [${b.rows}, ${b.cols}] do not fit; give them the same rows`)
  requireFinite('lstsq', b)
  const { u, s, v } = svd(a)
  const limit = rcond * (s[0] ?? 0)
  let rank = 0
  while (rank < s.length && s[rank]! > limit) rank++
  const c = multiply(transpose(u), b)
  for (let i = 0; i < s.length; i++)
    for (let j = 0; j < b.cols; j++) c.data[i * b.cols + j] = i < rank ? c.data[i * b.cols + j]! / s[i]! : 0
  return { x: multiply(v, c), rank, s }
}
