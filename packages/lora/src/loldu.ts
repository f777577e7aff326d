import type { Adapter, Rng, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { mul, scalar, sub, type Tensor, tensor1d } from '@weftjs/tensor'
import { fromMatrix, toMatrix } from '@weftjs/tensor/linalg'
import { sum } from '@weftjs/weight'
import { between } from './shared/between.ts'
import { ldu } from './shared/ldu.ts'
import { mustFit } from './shared/start.ts'

export interface LolduOptions {
  /** r pivots, the first that elimination meets; 64 by default, or as many as a smaller matrix has */
  readonly rank?: number
  /** s = α/r */
  readonly alpha?: number
  /** where z begins; the matrix begins as it is in every case */
  readonly init?: 'lu' | 'mean' | 'normal' | 'uniform' | 'ones' | 'zeros'
  /** s trains as well */
  readonly trainScale?: boolean
}
export interface LolduState extends Record<string, Tensor> {
  /** pivots [r] */
  z: Tensor1D
  /** P·L [out, r], frozen */
  l: Tensor2D
  /** U [r, in], unit upper triangular, frozen */
  u: Tensor2D
  /** s₀·z₀ [r], frozen */
  start: Tensor1D
}

const rankOf = ({ in: n, out }: Site, { rank = Math.min(64, n, out) }: LolduOptions): number => rank

/** numbers that train at a site: r, and one more where the scale trains */
export const trainable = (site: Site, options: LolduOptions = {}): number =>
  rankOf(site, options) + (options.trainScale ? 1 : 0)

const begin = (d: Float64Array, init: NonNullable<LolduOptions['init']>, rng: Rng): Tensor => {
  const mean = d.reduce((a, b) => a + b, 0) / d.length
  const deviation = Math.sqrt(d.reduce((a, b) => a + (b - mean) ** 2, 0) / d.length)
  const of = (f: (v: number) => number): Tensor => tensor1d(Float32Array.from(d, f)) // [r]
  if (init === 'normal')
    return of(
      (
        (z) => (_: number) =>
          mean + deviation * z.shift()!
      )([...rng.normal([d.length]).dataSync()]),
    )
  if (init === 'uniform') return rng.uniform([d.length], -Math.abs(mean) / 2, Math.abs(mean) / 2)
  return of((v) => ({ lu: v, mean, ones: 1, zeros: 0 })[init])
}

/** W + P·L·diag(s·z − s₀·z₀)·U with W = P·L·D·U, z alone trains  —  Shi et al., arXiv:2410.13618 */
export const loldu = (options: LolduOptions = {}): Adapter<LolduState> => {
  const { alpha = 1, init = 'lu', trainScale = false } = options
  if (!Number.isFinite(alpha) || alpha === 0)
    throw new Error(`loldu: alpha must be a number other than 0, found ${alpha}`)
  return {
    name: 'loldu',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const r = rankOf({ ...site, in: input, out }, options)
      mustFit(site, r)
      const { l, d, u } = ldu(toMatrix(site.weight!.dense()), r)
      if (d.length < r)
        throw new Error(
          `${site.name}: pivot ${d.length + 1} is as good as zero, so that rank ${r} cannot be had; lower rank to ${d.length}`,
        )
      const z = begin(d, init, rng) as Tensor1D
      const s = alpha / r
      const scale = trainScale && { s: scalar(s) }
      const state = { z, l: fromMatrix(l), u: fromMatrix(u), start: mul(z, s) as Tensor1D, ...scale }
      return { state, trains: trainScale ? ['z', 's'] : ['z'] }
    },
    weight: (base, { z, l, u, start, s }) => sum(base, between(l, sub(mul(z, s ?? alpha / z.size), start), u)),
  }
}
