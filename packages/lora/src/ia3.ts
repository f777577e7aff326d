import type { Adapter, Site, Tensor1D } from '@weftjs/spec'
import { mul, ones, type Tensor } from '@weftjs/tensor'
import { matchNames, scaleColumns, scaleRows } from '@weftjs/weight'
import { weightOf } from './shared/start.ts'

export interface Ia3Options {
  /** sites whose inputs are scaled, by glob over names; of all others the outputs are, bias included */
  readonly feedforward?: string | readonly string[]
}
export interface Ia3State extends Record<string, Tensor> {
  /** [out], or [in] where inputs are scaled */
  l: Tensor1D
}

/** is it the inputs of a site that are scaled? */
export const onInputs = ({ feedforward = '**.mlp.down' }: Ia3Options): ((site: Site) => boolean) => {
  const test = matchNames(feedforward)
  return ({ name }) => test(name)
}

/** numbers that train at a site: out, or in where inputs are scaled */
export const trainable = (site: Site, options: Ia3Options = {}): number => {
  const [out, input] = site.weight!.shape
  return onInputs(options)(site) ? input : out
}

/** diag(l)·W of keys and values, W·diag(l) of what reads the hidden units, l one at first  —  Liu et al., arXiv:2205.05638 */
export const ia3 = (options: Ia3Options = {}): Adapter<Ia3State> => {
  const inputs = onInputs(options)
  return {
    name: 'ia3',
    options: { ...options },
    init: (site) => {
      weightOf(site) // complains
      return { state: { l: ones([trainable(site, options)]) as Tensor1D } }
    },
    weight: (base, { l }, { site }) => (inputs(site) ? scaleColumns(l, base) : scaleRows(l, base)),
    // PEFT multiplies what a layer gives, with its bias
    vector: (_, base, { l }, { site }) => (base && !inputs(site) ? mul(base, l) : base),
  }
}
