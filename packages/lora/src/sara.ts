import type { Adapter, Revision, Scalar, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { add, concat, gather, mul, neg, readsAtOnce, type Tensor, takeAt, tensor1d, zeros } from '@weftjs/tensor'
import { scatter, sum } from '@weftjs/weight'
import { nuclearNorm } from './shared/nuclear.ts'
import { mustBeShare, placesOf, type SparseState, sizeOf, weightOf } from './shared/sparse.ts'
import { mustBeNumber } from './shared/start.ts'

export interface SaraOptions {
  /** θ: numbers below it in size train */
  readonly threshold?: number
  /** where θ is not given: the size below which this share of all numbers of the sites lies (by a sample of each) */
  readonly share?: number
  /** λ of the nuclear norm of what trains, taken at one matrix a step on average */
  readonly lambda?: number
  /** matrices whose smaller side is above this have that norm */
  readonly above?: number
  /** T_p: after this step what has grown beyond θ stays as it is, and the rest trains on with fresh moments */
  readonly settle?: number
}
export interface SaraState extends SparseState {
  /** all places of the start [2, K], frozen */
  all: Tensor2D
  /** what is added there beside the values [K]: −W₀ where one trains, W − W₀ where it has settled */
  fixed: Tensor1D
}

/** at most so many numbers train at a site: in·out. How many are below θ is known once the weights are read, at `attach` */
export const trainable = (site: Site, _: SaraOptions = {}): number => sizeOf(site)

const SAMPLE = 2 ** 14
/** θ below which a share of the sizes lies */
const quantile = (sites: readonly Site[], share: number): number => {
  const sizes: number[] = []
  for (const site of sites) {
    const w = weightOf(site).dense().dataSync()
    const step = Math.max(1, Math.floor(w.length / SAMPLE))
    for (let i = 0; i < w.length; i += step) sizes.push(Math.abs(w[i]!))
  }
  const sorted = Float64Array.from(sizes).sort()
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length))]!
}
const below = (w: ArrayLike<number>, threshold: number): number[] => {
  const found: number[] = []
  for (let i = 0; i < w.length; i++) if (Math.abs(w[i]!) < threshold) found.push(i)
  return found
}

/**
 * W whose numbers of |W₀| < θ train, from their own values  —  Hu et al., arXiv:2409.06633
 *
 * θ is the paper's for Stable Diffusion 1.5 where it is 2e-3; by default it is a share of the numbers. The norm needs an
 * SVD of a whole matrix at a step, which takes many times LoRA's step on a large one: `lambda: 0` leaves it out.
 */
export const sara = (options: SaraOptions = {}): Adapter<SaraState> => {
  const { threshold, share = 0.1, lambda = 5e-4, above = 64, settle = Number.POSITIVE_INFINITY } = options
  if (threshold !== undefined && !(threshold > 0))
    throw new Error(`sara: threshold must be above 0, found ${threshold}`)
  mustBeShare('sara: share', share)
  mustBeNumber('sara: lambda', lambda)
  // of the last network that it was put on
  const run = { theta: 0, normed: 1 }
  const hasNorm = (shape: readonly [number, number]): boolean => Math.min(...shape) > above
  return {
    name: 'sara',
    options: { ...options },
    init: (site, { sites, once }) => {
      const theta = once('theta', () => threshold ?? quantile(sites, share))
      Object.assign(run, { theta, normed: sites.filter((s) => s.weight && hasNorm(s.weight.shape)).length })
      const w = site.weight!.dense()
      const flat = below(w.dataSync(), theta)
      if (!flat.length) return undefined
      const [places, all] = [placesOf(flat, w.shape[1]), placesOf(flat, w.shape[1])]
      const values = takeAt(w, places) as Tensor1D // [k]
      return { state: { values, places, all, fixed: neg(values) as Tensor1D }, trains: ['values'] }
    },
    weight: (base, { values, places, all, fixed }, { training, rng, site, penalty }) => {
      if (training && lambda && !readsAtOnce() && hasNorm(base.shape))
        throw new Error(
          `${site.name}: the norm of sara is taken by an SVD within the pass, and a GPU outside of a browser is not read so; take lambda 0 or the wasm backend`,
        )
      if (training && lambda && rng && hasNorm(base.shape) && rng.fork('norm').numbers(1)[0]! * run.normed < 1)
        penalty(mul(nuclearNorm(values, places, base.shape), lambda) as Scalar)
      return sum(base, scatter(base.shape, concat([all, places], 1), concat([fixed, values]) as Tensor1D))
    },
    revise: (sites, { step }) =>
      step === settle
        ? Object.fromEntries(Object.entries(sites).map(([name, { state }]) => [name, settled(state, run.theta)]))
        : {},
  }
}

/** what has grown beyond θ moves from the values to what is fixed; at least the smallest stays */
const settled = ({ values, places, all, fixed }: SaraState, theta: number): Revision<SaraState> => {
  const size = values.dataSync() as Float32Array
  let left = below(size, theta)
  if (!left.length) left = [size.reduce((best, v, i) => (Math.abs(v) < Math.abs(size[best]!) ? i : best), 0)]
  const keep = new Set(left)
  // the places of the values are, until now, all places
  const rest = tensor1d(Float32Array.from(size, (v, i) => (keep.has(i) ? 0 : v)))
  const index = tensor1d(left, 'int32')
  const fresh = (): Tensor => zeros([left.length])
  return {
    state: {
      values: gather(values, index) as Tensor1D,
      places: gather(places, index, 1) as Tensor2D,
      all,
      fixed: add(fixed, rest) as Tensor1D,
    },
    moments: { values: fresh },
  }
}
