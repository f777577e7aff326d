import type { Adapter, Site, Weight } from '@weftjs/spec'
import { sub, type Tensor2D } from '@weftjs/tensor'
import type { Factors } from '@weftjs/tensor/linalg'
import { type LoraOptions, type LoraState, lora, loraScale } from './lora.ts'
import { factorsOf, mustBePositive, residual } from './shared/residual.ts'
import { mustBeWhole, mustFit } from './shared/start.ts'
import { topTriplesOf } from './shared/top-triples.ts'

export interface PissaOptions extends Omit<LoraOptions, 'init' | 'loraBias'> {
  /** power iterations of a randomized SVD, 0 for the whole SVD; by default that of matrices up to 128, and 2 for larger ones */
  readonly niter?: number
  /** rounds of taking factors from what packing the residual lost (QPiSSA, the paper: 5); of no effect on a dense base */
  readonly rounds?: number
}
export type PissaState = LoraState

/** numbers that train at a site: r·(in + out) */
export const trainable = ({ in: n, out }: Site, { rank = 8 }: PissaOptions = {}): number => rank * (n + out)

/** W = W_res + (α/r)·B·A, B·A the top r factors of W: they train, the rest is frozen  —  Meng et al., arXiv:2404.02948 */
export const pissa = (options: PissaOptions = {}): Adapter<PissaState> => {
  const { niter, rounds = 1, ...rest } = options
  mustBeWhole('pissa', 'rounds', rounds)
  if (niter !== undefined) mustBeWhole('pissa', 'niter', niter, 0)
  const at = loraScale(rest)
  return {
    ...lora(rest),
    name: 'pissa',
    options: { ...options },
    init: (site, { rng }) => {
      const { rank, factor } = at(site)
      mustFit(site, rank)
      mustBePositive(`${site.name}: alpha`, factor)
      const w = site.weight!.dense() // [out, in]
      let [left, base, state] = [w, undefined as Weight | undefined, undefined as Factors | undefined]
      for (let i = 0; i < rounds; i++) {
        state = factorsOf(topTriplesOf(left, rank, rng, niter), factor, 0, rank)
        base = residual(site.weight!, state, factor, w)
        left = sub(w, base.dense()) as Tensor2D // [out, in]
      }
      return { state: { ...state! }, base: base! }
    },
  }
}
