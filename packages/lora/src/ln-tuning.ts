import type { Adapter, Site, Tensor1D } from '@weftjs/spec'
import { add, clone, sub, type Tensor } from '@weftjs/tensor'

export interface LnTuningState extends Record<string, Tensor> {
  /** the norm's scale [D] and, where it has one, its bias [D], as at the start and then trained */
  scale: Tensor1D
  bias: Tensor1D
}

/** numbers that train at a site: the norm's own */
export const trainable = ({ vectors = {} }: Site): number => Object.values(vectors).reduce((n, t) => n + t.size, 0)

/** γ, β of the norms train, and nothing else  —  Zhao et al., arXiv:2312.11420 */
export const lnTuning = (): Adapter<LnTuningState> => ({
  name: 'ln-tuning',
  options: {},
  init: (site) => {
    if (site.kind !== 'norm' || !site.vectors)
      throw new Error(`${site.name} (${site.kind}): ln-tuning trains norms; narrow "at" to them, as "**.{norm1,norm2}"`)
    const state = Object.fromEntries(Object.entries(site.vectors).map(([key, t]) => [key, clone(t)]))
    return { state: state as LnTuningState }
  },
  vector: (which, base, state, { site }) => {
    const own = site.vectors?.[which]
    if (!base || !own || !state[which]) return base
    // what has been added to the stored vector (an offset, another adapter's part) stays
    return base === own ? state[which] : add(state[which], sub(base, own))
  },
})
