import type { Params, Transform } from '@weftjs/spec'
import { adamUpdates, mapParams, selectParams, zerosLike } from '@weftjs/tensor'
import type { Schedule } from './transform.ts'

export interface AdamState {
  readonly step: number
  readonly m: Params
  readonly v: Params
}
export interface AdamOptions {
  readonly b1?: number
  readonly b2?: number
  readonly eps?: number
}

const start = (params: Params): AdamState => ({
  step: 0,
  m: mapParams(params, (p) => zerosLike(p)),
  v: mapParams(params, (p) => zerosLike(p)),
})

/** moments of what has no gradient in this step wait */
const kept = (before: AdamState, { m, v }: Pick<AdamState, 'm' | 'v'>): Pick<AdamState, 'm' | 'v'> => ({
  m: { ...before.m, ...m },
  v: { ...before.v, ...v },
})

/** m̂/(√v̂ + ε), moments of g and g² corrected for their start at zero  —  Kingma & Ba, arXiv:1412.6980 */
export const scaleByAdam = ({ b1 = 0.9, b2 = 0.999, eps = 1e-8 }: AdamOptions = {}): Transform<AdamState> => ({
  init: start,
  update: (grads, state) => {
    const step = state.step + 1
    const { updates, m, v } = adamUpdates(grads, state, {}, { b1, b2, eps, decay: 0, scale: 1, step })
    return [updates, { step, ...kept(state, { m, v }) }]
  },
})

export interface AdamwOptions extends AdamOptions {
  readonly lr?: number | Schedule
  readonly weightDecay?: number
  /** which parameters decay; all by default, as in torch */
  readonly decays?: (name: string) => boolean
}

/** as of three transforms in a chain: moments, decay, learning rate */
type AdamwState = readonly [AdamState, null, { readonly step: number }]

/** p − lr·(m̂/(√v̂ + ε) + λ·p), as torch.optim.AdamW  —  Loshchilov & Hutter, arXiv:1711.05101 */
export const adamw = ({
  lr = 1e-3,
  weightDecay = 0.01,
  decays = () => true,
  b1 = 0.9,
  b2 = 0.999,
  eps = 1e-8,
}: AdamwOptions = {}): Transform<AdamwState> => ({
  init: (params) => [start(params), null, { step: 0 }],
  update: (grads, [moments, , rate], params) => {
    const step = moments.step + 1
    const scale = -(typeof lr === 'number' ? lr : lr(rate.step))
    const settings = { b1, b2, eps, decay: weightDecay, scale, step }
    const { updates, m, v } = adamUpdates(grads, moments, selectParams(params, decays), settings)
    return [updates, [{ step, ...kept(moments, { m, v }) }, null, { step: rate.step + 1 }]]
  },
})
