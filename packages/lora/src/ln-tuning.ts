import type { Adapter, Site, Tensor1D } from '@weftjs/spec'
import { add, type Tensor, zerosLike } from '@weftjs/tensor'

export interface LnTuningState extends Record<string, Tensor> {
  /** what is added to the norm's scale [D], and to its bias [D] where it has one; each zero at first */
  scale: Tensor1D
  bias: Tensor1D
}

/** numbers that train at a site: the norm's own */
export const trainable = ({ vectors = {} }: Site): number => Object.values(vectors).reduce((n, t) => n + t.size, 0)

/** γ + δγ, β + δβ: the norms alone train  —  Zhao et al., arXiv:2312.11420 */
export const lnTuning = (): Adapter<LnTuningState> => ({
  name: 'ln-tuning',
  options: {},
  init: (site) => {
    if (site.kind !== 'norm' || !site.vectors)
      throw new Error(`${site.name} (${site.kind}): ln-tuning trains norms; narrow "at" to them, as "**.{norm1,norm2}"`)
    const state = Object.fromEntries(Object.entries(site.vectors).map(([key, t]) => [key, zerosLike(t)]))
    return { state: state as LnTuningState }
  },
  vector: (which, base, state) => (base && state[which] ? add(base, state[which]) : base),
})
