import type { Params, Transform } from '@weftjs/spec'
import { add, div, mapParams, mul, sqrt, square, zerosLike } from '@weftjs/tensor'
import { addDecayedWeights, chain, type Schedule, scaleByLearningRate } from './transform.ts'

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

/** m̂/(√v̂ + ε), moments of g and g² corrected for their start at zero  —  Kingma & Ba, arXiv:1412.6980 */
export const scaleByAdam = ({ b1 = 0.9, b2 = 0.999, eps = 1e-8 }: AdamOptions = {}): Transform<AdamState> => ({
  init: (params) => ({ step: 0, m: mapParams(params, (p) => zerosLike(p)), v: mapParams(params, (p) => zerosLike(p)) }),
  update: (grads, state) => {
    const step = state.step + 1
    const m = mapParams(grads, (g, n) => add(mul(state.m[n]!, b1), mul(g, 1 - b1)))
    const v = mapParams(grads, (g, n) => add(mul(state.v[n]!, b2), mul(square(g), 1 - b2)))
    const root = Math.sqrt(1 - b2 ** step)
    const updates = mapParams(m, (t, n) => div(mul(t, 1 / (1 - b1 ** step)), add(mul(sqrt(v[n]!), 1 / root), eps)))
    return [updates, { step, m, v }]
  },
})

export interface AdamwOptions extends AdamOptions {
  readonly lr?: number | Schedule
  readonly weightDecay?: number
  /** which parameters decay; all by default, as in torch */
  readonly decays?: (name: string) => boolean
}

/** p − lr·(m̂/(√v̂ + ε) + λ·p), as torch.optim.AdamW  —  Loshchilov & Hutter, arXiv:1711.05101 */
export const adamw = ({
  lr = 1e-3,
  weightDecay = 0.01,
  decays,
  ...adam
}: AdamwOptions = {}): Transform<readonly unknown[]> =>
  chain(scaleByAdam(adam), addDecayedWeights(weightDecay, decays), scaleByLearningRate(lr))
