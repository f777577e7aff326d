import type { Site, Start, Tensor1D, Tensor2D, Weight } from '@weftjs/spec'
import { type Tensor, tensor2d, zeros } from '@weftjs/tensor'
import { scatter, sum } from '@weftjs/weight'

export interface SparseState extends Record<string, Tensor> {
  /** [k] */
  values: Tensor1D
  /** rows and columns [2, k] int32, frozen */
  places: Tensor2D
}

/** places of a flat [out·in], as rows and columns [2, k] int32 */
export const placesOf = (flat: ArrayLike<number>, input: number): Tensor2D => {
  const k = flat.length
  const places = new Int32Array(2 * k)
  for (let i = 0; i < k; i++) {
    places[i] = Math.floor(flat[i]! / input)
    places[k + i] = flat[i]! % input
  }
  return tensor2d(places, [2, k], 'int32')
}

/** the other way */
export const flatOf = (places: Tensor, input: number): Float64Array => {
  const at = places.dataSync()
  const k = at.length / 2
  return Float64Array.from({ length: k }, (_, i) => at[i]! * input + at[k + i]!)
}

/** k numbers that begin at zero, or as given */
export const sparseStart = (
  { weight }: Site,
  flat: ArrayLike<number>,
  values: Tensor1D = zeros([flat.length]),
): Start<SparseState> => ({ state: { values, places: placesOf(flat, weight!.shape[1]) }, trains: ['values'] })

/** W + S */
export const withSparse = (base: Weight, { values, places }: SparseState): Weight =>
  sum(base, scatter(base.shape, places, values))

/** @throws Error for a place that multiplies by no matrix, which the others of a common draw would only find later */
export const weightOf = ({ name, kind, weight }: Site): Weight => {
  if (weight) return weight
  throw new Error(`${name} (${kind}) has no weight to draw from; narrow "at" to linear sites`)
}

export const sizeOf = (site: Site): number => weightOf(site).shape[0] * weightOf(site).shape[1]

/** @throws Error for what is no share in (0, 1] */
export const mustBeShare = (what: string, p: number): void => {
  if (!(p > 0 && p <= 1)) throw new Error(`${what} must be in (0, 1], found ${p}`)
}

/** how many of a site's numbers a share of them is: at least one, and rounded up */
export const shareOf = (site: Site, share: number): number => Math.min(sizeOf(site), Math.ceil(share * sizeOf(site)))
