import type { Adapter, Site } from '@weftjs/spec'
import { sampleOf, type Tensor1D, tensor1d } from '@weftjs/tensor'
import type { Moved } from './shared/movement.ts'
import { mustBeShare, type SparseState, shareOf, sizeOf, sparseStart, withSparse } from './shared/sparse.ts'

export { movedMostOfEach } from './shared/movement.ts'

export interface PivotalOptions {
  /** p, share of each matrix, rounded up */
  readonly share?: number
}
export type PivotalState = SparseState

/** numbers that train at a site: ⌈p·in·out⌉ */
export const trainable = (site: Site, { share = 0.1 }: PivotalOptions = {}): number =>
  Math.min(site.in * site.out, Math.ceil(share * site.in * site.out))

/**
 * W + M ⊙ δ, M the share of W that full tuning moved most, δ how far  —  Chen et al., arXiv:2406.12292
 *
 * For attention's matrices. Stage 1 is training with `attach(network, [], rng, { train })`, a fifth of the steps (the text
 * gives no share), and `movedMostOfEach(start, params, share)` what it shows; where nothing has moved yet M is random. The
 * words that name a concept are new rows of the embedding, trained beside it.
 */
export const pivotal = ({ share = 0.1 }: PivotalOptions = {}, moved?: Moved): Adapter<PivotalState> => {
  mustBeShare('pivotal: share', share)
  return {
    name: 'pivotal',
    options: { share },
    init: (site, { rng }) => {
      const count = shareOf(site, share)
      if (!moved) return sparseStart(site, sampleOf(rng, sizeOf(site), count))
      const own = moved[site.name]
      if (own?.flat.length !== count || own.flat.at(-1)! >= sizeOf(site))
        throw new Error(
          `${site.name}: ${own?.flat.length ?? 'no'} numbers moved, and a share of ${share} is ${count}; train it in stage 1 and take the same share`,
        )
      return sparseStart(site, own.flat, tensor1d(own.by) as Tensor1D)
    },
    weight: withSparse,
  }
}
