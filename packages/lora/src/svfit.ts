import type { Adapter, Rng, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { clone, sub, type Tensor, tensor1d } from '@weftjs/tensor'
import { asProduct, fromMatrix, gramSvd, randomizedSvd, type Svd, toMatrix, transpose } from '@weftjs/tensor/linalg'
import { sum } from '@weftjs/weight'
import { between } from './shared/between.ts'
import { columns } from './shared/residual.ts'
import { mustFit } from './shared/start.ts'

export interface SvfitOptions {
  /** r singular values train: 64 by default, or as many as a smaller matrix has */
  readonly rank?: number
  /** instead: as many as hold this share of Σ s² (the paper has 0.99), by a decomposition of the whole matrix */
  readonly energy?: number
}
export interface SvfitState extends Record<string, Tensor> {
  /** σ, singular values [r] */
  s: Tensor1D
  /** their start [r], frozen */
  start: Tensor1D
  /** left vectors [out, r], frozen */
  u: Tensor2D
  /** right vectors [r, in], frozen */
  v: Tensor2D
}

/** smallest r whose values hold a share of the sum of squares */
const enough = (s: Float64Array, energy: number): number => {
  const wanted = energy * s.reduce((sum, x) => sum + x * x, 0)
  let r = 0
  for (let held = 0; r < s.length && (r === 0 || held < wanted * (1 - 1e-12)); r++) held += s[r]! ** 2
  return r
}

const decompose = (site: Site, { rank, energy }: SvfitOptions, rng: Rng): { svd: Svd; r: number } => {
  const w = site.weight!.dense() // [out, in]
  if (energy !== undefined) {
    const whole = gramSvd(toMatrix(w))
    return { svd: whole, r: enough(whole.s, energy) }
  }
  const r = rank ?? Math.min(64, ...site.weight!.shape)
  mustFit(site, r)
  return { svd: randomizedSvd(asProduct(w), r, { rng }), r }
}

/** numbers that train at a site: r; where `energy` decides, the matrix is decomposed to tell */
export const trainable = ({ weight }: Site, { rank, energy }: SvfitOptions = {}): number =>
  energy === undefined ? (rank ?? Math.min(64, ...weight!.shape)) : enough(gramSvd(toMatrix(weight!.dense())).s, energy)

/**
 * W + U·diag(σ − s)·Vᵀ with the top r of W = U·diag(s)·Vᵀ, σ alone trains  —  Sun et al., arXiv:2409.05926
 *
 * That is the paper's W_e + U·diag(σ)·Vᵀ, with nothing rounded at the start and a packed base left as it is. At a rank near
 * the whole, the products with U and V are as large as W's own, so that a step takes up to three times that of the base.
 */
export const svfit = (options: SvfitOptions = {}): Adapter<SvfitState> => {
  const { rank, energy } = options
  if (energy !== undefined && !(energy > 0 && energy <= 1))
    throw new Error(`svfit: energy must be in (0, 1], found ${energy}`)
  if (energy !== undefined && rank !== undefined)
    throw new Error('svfit: rank and energy both say how many singular values train; give one')
  return {
    name: 'svfit',
    options: { ...options },
    init: (site, { rng }) => {
      const { svd: found, r } = decompose(site, options, rng)
      const start = tensor1d(Float32Array.from(found.s.subarray(0, r))) // [r]
      const vectors = { u: fromMatrix(columns(found.u, 0, r)), v: fromMatrix(transpose(columns(found.v, 0, r))) }
      return { state: { s: clone(start), start, ...vectors }, trains: ['s'] }
    },
    weight: (base, { s, start, u, v }) => sum(base, between(u, sub(s, start), v)),
  }
}
