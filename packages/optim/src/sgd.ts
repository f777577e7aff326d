import type { Params, Transform } from '@weftjs/spec'
import { addInPlace, clone, mapParams, scaleInPlace } from '@weftjs/tensor'
import { addDecayedWeights, chain, type Schedule, scaleByLearningRate } from './transform.ts'

export interface SgdOptions {
  readonly lr?: number | Schedule
  readonly momentum?: number
  readonly nesterov?: boolean
  readonly weightDecay?: number
}

/** b ← μ·b + g, starting from the first gradient; the step goes along b, or along g + μ·b (Nesterov) */
const trace = (momentum: number, nesterov: boolean): Transform<{ readonly b: Params | null }> => ({
  init: () => ({ b: null }),
  update: (grads, { b }) => {
    if (!momentum) return [grads, { b }]
    const next = b ? addInPlace(scaleInPlace(b, momentum), grads) : mapParams(grads, (g) => clone(g))
    return [nesterov ? addInPlace(grads, next, momentum) : mapParams(next, (t) => clone(t)), { b: next }]
  },
})

/** p − lr·b with momentum and coupled decay, as torch.optim.SGD  —  Sutskever et al., ICML 2013 */
export const sgd = ({
  lr = 1e-2,
  momentum = 0,
  nesterov = false,
  weightDecay = 0,
}: SgdOptions = {}): Transform<readonly unknown[]> =>
  chain(addDecayedWeights(weightDecay), trace(momentum, nesterov), scaleByLearningRate(lr))
