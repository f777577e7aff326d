import { getBackend } from '@tensorflow/tfjs-core'
import type { Rng, Tensor2D } from '@weftjs/spec'
import { matMul, tensor2d } from '../ops.ts'
import { type Matrix, matrix, scaleColumns, transpose } from './matrix.ts'
import { asMatrix, type Product, randomizedSvd, truncate } from './randomized-svd.ts'
import { svd } from './svd.ts'

/** t [rows, cols] → its numbers in double precision. Throws where the backend reads only asynchronously (WebGPU). */
export const toMatrix = (t: Tensor2D): Matrix => {
  let data: ArrayLike<number>
  try {
    data = t.dataSync()
  } catch (error) {
    throw new Error(
      `toMatrix: [${t.shape}] cannot be read at once on this backend; await toMatrixAsync(t), or take attachAsync for an adapter, or the wasm backend`,
      {
        cause: error,
      },
    )
  }
  return matrix(t.shape[0], t.shape[1], data)
}

/** t [rows, cols] → its numbers in double precision, on any backend */
export const toMatrixAsync = async (t: Tensor2D): Promise<Matrix> => matrix(t.shape[0], t.shape[1], await t.data())

/** m → [rows, cols] float32 */
export const fromMatrix = ({ rows, cols, data }: Matrix): Tensor2D =>
  tensor2d(new Float32Array(data), [rows, cols], 'float32')

/**
 * t as what it does to others, for `randomizedSvd`: on wasm by products of the backend in single precision, of which only the
 * narrow results are read; elsewhere the matrix itself. Throws where the backend reads only asynchronously (WebGPU).
 */
export const asProduct = (t: Tensor2D): Matrix | Product => {
  if (getBackend() !== 'wasm') return toMatrix(t)
  const times = (x: Matrix, transposed: boolean): Matrix => {
    const right = fromMatrix(x)
    const y = matMul(t, right, transposed) as Tensor2D
    const found = toMatrix(y)
    for (const made of [right, y]) made.dispose()
    return found
  }
  const [rows, cols] = t.shape
  return { rows, cols, times: (x) => times(x, false), transposedTimes: (x) => times(x, true) }
}

export interface Factors {
  /** [out, r] */
  readonly b: Tensor2D
  /** [r, in] */
  readonly a: Tensor2D
}

const factors = (w: Matrix | Product, rank: number, rng: Pick<Rng, 'numbers'> | undefined): Factors => {
  const most = Math.min(w.rows, w.cols)
  if (!Number.isInteger(rank) || rank < 1 || rank > most)
    throw new Error(`topFactors: rank ${rank} is not in 1..min(${w.rows}, ${w.cols}) = ${most}; lower it`)
  const { u, s, v } = rng ? randomizedSvd(w, rank, { rng }) : truncate(svd(asMatrix(w)), rank)
  const root = s.map(Math.sqrt)
  return { b: fromMatrix(scaleColumns(u, root)), a: fromMatrix(transpose(scaleColumns(v, root))) }
}

/**
 * W [out, in] ≈ b·a with b = U√S [out, r] and a = √S·Vᵀ [r, in], its top `rank` factors: by `randomizedSvd` where an
 * `rng` is given, else by the whole `svd`. Throws as they do, and where the backend reads only asynchronously.
 */
export const topFactors = (w: Tensor2D, rank: number, rng?: Pick<Rng, 'numbers'>): Factors =>
  factors(rng ? asProduct(w) : toMatrix(w), rank, rng)

/** `topFactors` on any backend */
export const topFactorsAsync = async (w: Tensor2D, rank: number, rng?: Pick<Rng, 'numbers'>): Promise<Factors> =>
  factors(await toMatrixAsync(w), rank, rng)
