import type { Rng, Tensor2D } from '@weftjs/spec'
import { asProduct, type Svd, toMatrix } from '@weftjs/tensor/linalg'
import { isWhole, topTriples } from './residual.ts'

/** `topTriples` of a tensor, by products on its backend where the SVD is a randomized one */
export const topTriplesOf = (w: Tensor2D, rank: number, rng: Rng, niter?: number): Svd =>
  topTriples(isWhole(niter, w.shape) ? toMatrix(w) : asProduct(w), rank, rng, niter)
