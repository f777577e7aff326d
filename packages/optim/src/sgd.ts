import type { Params, Transform } from '@weftjs/spec'
import { add, clone, mapParams, mul } from '@weftjs/tensor'
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
    const next = mapParams(grads, (g, n) => (b ? add(mul(b[n]!, momentum), g) : clone(g)))
    return [nesterov ? mapParams(grads, (g, n) => add(g, mul(next[n]!, momentum))) : next, { b: next }]
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
