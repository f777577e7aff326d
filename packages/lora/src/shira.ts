import type { Adapter, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { sampleOf, type Tensor, tensor2d, zeros } from '@weftjs/tensor'
import { scatter, sum } from '@weftjs/weight'
import { mustBeWhole } from './shared/start.ts'

export interface ShiraOptions {
  /** r: as many entries of W train as numbers of a LoRA of this rank */
  readonly rank?: number
}
export interface ShiraState extends Record<string, Tensor> {
  /** [k], zero at first */
  values: Tensor1D
  /** where they stand, rows and columns [2, k] int32, fixed */
  places: Tensor2D
}

/** numbers that train at a site: r·(in + out) */
export const trainable = ({ weight }: Site, { rank = 32 }: ShiraOptions = {}): number =>
  rank * (weight!.shape[0] + weight!.shape[1])

/**
 * W + S, S zero but in r·(in + out) random places  —  Bhardwaj et al., arXiv:2406.13175
 *
 * A step takes 1.6 of LoRA's with as many numbers: each of them meets each row of the input by itself, where LoRA's meet them
 * in products of matrices.
 */
export const shira = (options: ShiraOptions = {}): Adapter<ShiraState> => {
  const { rank = 32 } = options
  return {
    name: 'shira',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      mustBeWhole(site.name, 'rank', rank)
      const k = trainable(site, options)
      if (k > out * input)
        throw new Error(
          `${site.name}: rank ${rank} is ${k} entries, and the matrix [${out}, ${input}] has ${out * input}; lower rank`,
        )
      const flat = sampleOf(rng, out * input, k)
      const places = Int32Array.from({ length: 2 * k }, (_, i) =>
        i < k ? Math.floor(flat[i]! / input) : flat[i - k]! % input,
      )
      return {
        state: { values: zeros([k]) as Tensor1D, places: tensor2d(places, [2, k], 'int32') },
        trains: ['values'],
      }
    },
    weight: (base, { values, places }) => sum(base, scatter(base.shape, places, values)),
  }
}
