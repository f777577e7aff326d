import type { Adapter, Site, Tensor, Tensor1D } from '@weftjs/spec'
import { add, mul, ones, zeros } from '@weftjs/tensor'
import { scaleRows } from '@weftjs/weight'

export interface SsfOptions {
  /** γ = 1 and β = 0, which changes nothing; or the paper's γ ~ N(1, 0.02), β ~ N(0, 0.02) */
  readonly init?: 'identity' | 'normal'
  /** train γ; without it this is tuning of biases */
  readonly scale?: boolean
  /** train β; a site without a bias gets one, which the checkpoint of a Llama has no place for */
  readonly shift?: boolean
}
export interface SsfState extends Record<string, Tensor> {
  /** γ [out] */
  scale?: Tensor1D
  /** β [out] */
  shift?: Tensor1D
}

/** numbers that train at a site: 2·out */
export const trainable = ({ out }: Site, { scale = true, shift = true }: SsfOptions = {}): number =>
  (scale ? out : 0) + (shift ? out : 0)

/** γ ⊙ (W·x + b) + β, and the same after norms  —  Lian et al., arXiv:2210.08823 */
export const ssf = (options: SsfOptions = {}): Adapter<SsfState> => {
  const { init = 'identity', scale = true, shift = true } = options
  if (init !== 'identity' && init !== 'normal') throw new Error(`ssf: init is 'identity' or 'normal', found '${init}'`)
  if (!scale && !shift) throw new Error('ssf: neither scale nor shift trains; leave one of them on')
  return {
    name: 'ssf',
    options: { ...options },
    init: ({ name, kind, out, weight, axes }, { rng }) => {
      if (!weight && kind !== 'norm')
        throw new Error(`${name} (${kind}): features are scaled after a matrix or a norm; narrow "at" to these`)
      if (kind === 'embed' && axes?.[0] === 'vocabulary')
        throw new Error(`${name}: rows of [${weight!.shape}] are looked up here, not channels; adapt the norm after it`)
      const start = (mean: Tensor): Tensor1D =>
        (init === 'normal' ? add(mean, rng.normal([out], 0.02)) : mean) as Tensor1D
      return {
        state: { ...(scale && { scale: start(ones([out])) }), ...(shift && { shift: start(zeros([out])) }) },
      }
    },
    weight: (base, { scale: g }) => (g ? scaleRows(g, base) : base),
    vector: (which, v, { scale: g, shift: b }) => {
      const turned = v && g ? mul(v, g) : v
      if (which === 'scale' || !b) return turned
      return turned ? add(turned, b) : b
    },
  }
}
