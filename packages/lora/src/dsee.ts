import type { Adapter, Site } from '@weftjs/spec'
import { abs, largestOf, matMul, mul, sampleOf, sub, type Tensor, type Tensor2D, zeros } from '@weftjs/tensor'
import { topFactors } from '@weftjs/tensor/linalg'
import { lowRank, scale, scatter, sum } from '@weftjs/weight'
import type { LoraState } from './lora.ts'
import { type SparseState, sizeOf, sparseStart } from './shared/sparse.ts'
import { mustBeWhole, mustFit } from './shared/start.ts'

export { type DseePrunedOptions, type DseeUpdates, dseePruned, dseePrunedHeads } from './shared/prune.ts'

export interface DseeOptions {
  /** r */
  readonly rank?: number
  /** the update is scaled by α/r */
  readonly alpha?: number
  /** N, numbers of S₂ at a site */
  readonly entries?: number
  /**
   * Where they are: at the largest of W less its best matrix of rank r (`residual`; the authors alternate between the two
   * parts of a sparse and low-rank decomposition, of which this is the first round), the largest of W, or anywhere
   */
  readonly support?: 'residual' | 'magnitude' | 'random'
}
export type DseeState = LoraState & SparseState

/** numbers that train at a site: r·(in + out) + N */
export const trainable = ({ in: n, out }: Site, { rank = 16, entries = 16 }: DseeOptions = {}): number =>
  rank * (n + out) + entries

/**
 * W + (α/r)·(B·A + S₂), S₂ zero but in N places; W is pruned afterwards  —  Chen et al., arXiv:2111.00160
 *
 * After training, `dseePruned` or `dseePrunedHeads` make a network with zeros by what was learned; attach to it again and go on.
 */
export const dsee = (options: DseeOptions = {}): Adapter<DseeState> => {
  const { rank = 16, alpha = 2 * rank, entries = 16, support = 'residual' } = options
  mustBeWhole('dsee', 'entries', entries)
  return {
    name: 'dsee',
    options: { ...options },
    init: (site, { rng }) => {
      mustFit(site, rank)
      const [out, input] = site.weight!.shape
      if (entries > sizeOf(site))
        throw new Error(`${site.name}: ${entries} entries, and the matrix has ${sizeOf(site)}; lower "entries"`)
      const score = (): Tensor => {
        const w = site.weight!.dense()
        if (support === 'magnitude') return abs(w)
        const { b, a } = topFactors(w, rank, rng.fork('factors'))
        return abs(sub(w, matMul(b, a)))
      }
      const places =
        support === 'random'
          ? sampleOf(rng.fork('places'), out * input, entries)
          : largestOf(score().dataSync(), entries)
      const { state, trains } = sparseStart(site, places)
      const a = rng.normal([rank, input], 0.02) as Tensor2D // [r, in]
      const b = zeros([out, rank]) as Tensor2D // [out, r]
      return { state: { a, b, ...state }, trains: ['a', 'b', ...trains!] }
    },
    weight: (base, { a, b, values, places }) =>
      sum(base, scale(alpha / rank, lowRank(b, a)), scatter(base.shape, places, mul(values, alpha / rank))),
  }
}
