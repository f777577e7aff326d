import type { Adapter, Site, Tensor1D } from '@weftjs/spec'
import { add, type Tensor, zeros } from '@weftjs/tensor'

export interface BitfitOptions {
  /** a bias also where the network has none, as in most models since Llama; by default such places are passed over */
  readonly add?: boolean
}
export interface BitfitState extends Record<string, Tensor> {
  /** what is added to the bias [out], zero at first */
  bias: Tensor1D
}

/** numbers that train at a site: those of its bias */
export const trainable = ({ weight, vectors, out }: Site, { add: everywhere = false }: BitfitOptions = {}): number =>
  everywhere || vectors?.bias ? (weight?.shape[0] ?? out) : 0

/** b + δ: the biases alone train, of linears and of norms  —  Ben Zaken et al., arXiv:2106.10199 */
export const bitfit = (options: BitfitOptions = {}): Adapter<BitfitState> => ({
  name: 'bitfit',
  options: { ...options },
  init: (site, { sites }) => {
    const places = sites.filter((s) => trainable(s, options))
    if (!places.length)
      throw new Error(
        `${site.name}: bitfit trains biases, and none of the ${sites.length} sites of "at" has one; name places that have, or set "add" to begin new ones at zero`,
      )
    const n = trainable(site, options)
    return n ? { state: { bias: zeros([n]) as Tensor1D } } : undefined
  },
  vector: (which, base, { bias }) => (which === 'scale' ? base : base ? add(base, bias) : bias),
})
