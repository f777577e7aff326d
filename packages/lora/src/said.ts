import type { Adapter, Tensor, Tensor1D } from '@weftjs/spec'
import { mul, ones, zeros } from '@weftjs/tensor'
import { shifted } from './did.ts'
import { type Fastfood, fastfood, orderOf, paddedSize, project } from './shared/fastfood.ts'
import { mustBeWhole } from './shared/start.ts'

export interface SaidOptions {
  /** d in all: one number for each of m matrices, and d − m that are common */
  readonly dimension?: number
}
export interface SaidState extends Record<string, Tensor> {
  /** λ [1] */
  lambda: Tensor1D
  /** the projection, see `Fastfood` */
  signs: Tensor
  gauss: Tensor
}

/** numbers that train at a site: λ; θ [d − m] is common to all */
export const trainable = (): number => 1

/**
 * Wᵢ + λᵢ·Pᵢ·θ: did with a factor of its own for each matrix  —  Aghajanyan et al., arXiv:2012.13255
 *
 * A step takes what did's takes and why, and a product with λ besides.
 */
export const said = (options: SaidOptions = {}): Adapter<SaidState> => {
  const { dimension: d = 1000 } = options
  mustBeWhole('said', 'dimension', d)
  return {
    name: 'said',
    options: { ...options },
    init: (site, { rng, shared, sites }) => {
      const left = d - sites.length
      if (left < 1)
        throw new Error(
          `${site.name}: dimension ${d} leaves nothing beside a factor for each of ${sites.length} matrices; raise dimension or narrow "at"`,
        )
      shared('theta', () => zeros([left]), { trains: true })
      const [out, input] = site.weight!.shape
      const L = paddedSize(left, out * input)
      shared(`order${L}`, (random) => orderOf(random, left, L))
      const projection = fastfood(rng, left, out * input)
      return { state: { lambda: ones([1]) as Tensor1D, ...projection } as SaidState, trains: ['lambda'] }
    },
    weight: (base, { lambda, ...projection }, { shared }) => {
      const [theta, size] = [shared['theta']!, base.shape[0] * base.shape[1]]
      const delta = project(theta, projection as Fastfood, shared[`order${paddedSize(theta.size, size)}`]!, size)
      return shifted(base, mul(delta, lambda))
    },
  }
}
