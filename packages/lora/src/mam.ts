import type { Adapter, Site, Tensor } from '@weftjs/spec'
import { type ParallelOptions, parallel, trainable as trainableParallel } from './parallel.ts'
import { type PrefixOptions, prefix, trainable as trainablePrefix } from './prefix.ts'

export interface MamOptions {
  /** at `blocks.*.attn.core` */
  readonly prefix?: PrefixOptions
  /** at any other site, `blocks.*.mlp` in the paper: ReLU, biases, 512 hidden units and s = 4 by default */
  readonly adapter?: ParallelOptions
}
/** that of `prefix` or of `parallel` */
export interface MamState extends Record<string, Tensor> {}

const ADAPTER: ParallelOptions = { width: 512, scale: 4, activation: 'relu', bias: true }

/** numbers that train at a site: those of its prefix, 2·l·d, or of its adapter, w·2d + w + d */
export const trainable = (site: Site, { prefix: p = {}, adapter = {} }: MamOptions = {}): number =>
  site.kind === 'core' ? trainablePrefix(site, p) : trainableParallel(site, { ...ADAPTER, ...adapter })

/** a prefix at the attention, and MLP(x) + s·(U·ReLU(D·x + d) + u)  —  He et al., arXiv:2110.04366 */
export const mam = (options: MamOptions = {}): Adapter<MamState> => {
  const before: Adapter<any> = prefix(options.prefix)
  const beside: Adapter<any> = parallel({ ...ADAPTER, ...options.adapter })
  if (!beside.around)
    throw new Error("mam: the adapter at the MLP needs an activation; without one it is LoRA, which 'lora' does")
  return {
    name: 'mam',
    options: { ...options },
    init: (site, ctx) => (site.kind === 'core' ? before : beside).init(site, ctx),
    around: (next, x, state, ctx) => beside.around!(next, x, state, ctx),
    attend: (next, x, state, ctx) => before.attend!(next, x, state, ctx),
  }
}
