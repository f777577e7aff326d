import type { Adapter, Scalar, Site, Tensor1D } from '@weftjs/spec'
import { abs, mul, sampleOf, sum } from '@weftjs/tensor'
import type { Moved } from './shared/movement.ts'
import { mustBeShare, type SparseState, shareOf, sizeOf, sparseStart, withSparse } from './shared/sparse.ts'

export { type Moved, movedMost } from './shared/movement.ts'

export interface LtSftOptions {
  /** how many numbers train at each site; by default those that moved most, as many as they are */
  readonly counts?: Readonly<Record<string, number>>
  /** where nothing has moved yet: a random share of each matrix, the baseline of the paper */
  readonly share?: number
  /** λ of λ·Σ|θ − θ₀|/N, N numbers at all sites together */
  readonly l1?: number
}
export type LtSftState = SparseState

/** numbers that train at a site: as many as the counts say, else ⌈share·in·out⌉; `ltSft(...).options` has the counts of what moved */
export const trainable = (site: Site, { counts, share = 0.05 }: LtSftOptions = {}): number =>
  counts ? (counts[site.name] ?? 0) : shareOf(site, share)

/** its numbers, where the places that a file holds are still to come */
const first = (n: number): Int32Array => Int32Array.from({ length: n }, (_, i) => i)

/**
 * W + φ, φ zero but where full tuning moved W most; φ of a task and of a language add up  —  Ansell et al., arXiv:2110.07560
 *
 * Phase 1 is training with `attach(network, [], rng, { train })`, and `movedMost(start, params, count)` what it shows; phase 2
 * trains this adapter from zero. As in SHiRA, numbers in scattered places cost more time each than LoRA's. A whole tensor that trains in both phases (a new head) is named in `train` again.
 */
export const ltSft = ({ counts, share = 0.05, l1 = 0 }: LtSftOptions = {}, moved?: Moved): Adapter<LtSftState> => {
  mustBeShare('lt-sft: share', share)
  const found = moved && Object.fromEntries(Object.entries(moved).map(([n, m]) => [n, m.flat.length]))
  const known = counts ?? found
  let all = 1
  return {
    name: 'lt-sft',
    options: { ...(known ? { counts: known } : { share }), ...(l1 && { l1 }) },
    init: (site, { rng, sites }) => {
      all = sites.reduce((n, s) => n + sizeOf(s), 0)
      if (!known) return sparseStart(site, sampleOf(rng, sizeOf(site), shareOf(site, share)))
      const flat = moved ? moved[site.name]?.flat : first(known[site.name] ?? 0)
      if (flat && (flat.at(-1) ?? 0) >= sizeOf(site))
        throw new Error(`${site.name}: place ${flat.at(-1)} of ${sizeOf(site)}; what moved is of another network`)
      return flat?.length ? sparseStart(site, flat) : undefined
    },
    weight: (base, state, { training, penalty }) => {
      if (l1 && training) penalty(mul(sum(abs(state.values as Tensor1D)), l1 / all) as Scalar)
      return withSparse(base, state)
    },
  }
}
