import type { Rng, Tensor2D, Weight } from '@weftjs/spec'
import { matMul, mul, sub, tidy } from '@weftjs/tensor'
import {
  asMatrix,
  type Factors,
  fromMatrix,
  type Matrix,
  matrix,
  type Product,
  randomizedSvd,
  type Svd,
  svd,
  transpose,
} from '@weftjs/tensor/linalg'

/** up to this smaller side the whole SVD of a matrix takes no longer than a randomized one */
const SMALL = 128

/** columns `from` to `to` of m */
export const columns = ({ rows, cols, data }: Matrix, from: number, to: number): Matrix => {
  const out = matrix(rows, to - from)
  for (let i = 0; i < rows; i++) out.data.set(data.subarray(i * cols + from, i * cols + to), i * (to - from))
  return out
}

/** Is the whole SVD taken under this option at a matrix of this shape? */
export const isWhole = (niter: number | undefined, [out, input]: readonly [number, number]): boolean =>
  niter === undefined ? Math.min(out, input) <= SMALL : niter === 0

/**
 * At least the top `rank` triples of w, a matrix or a product of some. `niter`: 0 takes the whole SVD, n a randomized one
 * of n power iterations; by default the whole of small matrices, and 2 iterations for others.
 */
export const topTriples = (w: Matrix | Product, rank: number, rng: Rng, niter?: number): Svd =>
  isWhole(niter, [w.rows, w.cols]) ? svd(asMatrix(w)) : randomizedSvd(w, rank, { rng, iterations: niter || 2 })

/** triples `from` to `to` as b = U·√(S/s) [out, r], a = √(S/s)·Vᵀ [r, in], so that s·b·a is their part of the matrix */
export const factorsOf = ({ u, s, v }: Svd, factor: number, from: number, to: number): Factors => {
  const roots = s.subarray(from, to).map((x) => Math.sqrt(x / factor))
  const scaled = (m: Matrix): Matrix => {
    const part = columns(m, from, to)
    for (let i = 0; i < part.data.length; i++) part.data[i]! *= roots[i % part.cols]!
    return part
  }
  return { b: fromMatrix(scaled(u)), a: fromMatrix(transpose(scaled(v))) }
}

/** W − s·b·a in the format of the base; nothing else is left of it */
export const residual = (base: Weight, { b, a }: Factors, factor: number, w?: Tensor2D): Weight =>
  tidy(() => base.like(sub(w ?? base.dense(), mul(matMul(b, a), factor)) as Tensor2D) as never) as unknown as Weight

/** @throws Error for a factor that no root can be taken of */
export const mustBePositive = (what: string, value: number): void => {
  if (!(value > 0 && Number.isFinite(value))) throw new Error(`${what} must be a number above 0, found ${value}`)
}
