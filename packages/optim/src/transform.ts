import type { Params, Transform } from '@weftjs/spec'
import { add, addInPlace, div, globalNorm, minimum, type Scalar, scaleInPlace, selectParams } from '@weftjs/tensor'

/** learning rate (or another coefficient) of a step, the first being 0 */
export type Schedule = (step: number) => number

/** one after the other, each on the updates of the one before */
export const chain = (...transforms: readonly Transform<any>[]): Transform<readonly unknown[]> => ({
  init: (params) => transforms.map((t) => t.init(params)),
  update: (grads, states, params) => {
    let updates = grads
    const next = transforms.map((t, i) => {
      const [u, s] = t.update(updates, states[i], params)
      updates = u
      return s
    })
    return [updates, next]
  },
})

/** a transform without a state */
export const stateless = (f: (updates: Params, params: Params) => Params): Transform<null> => ({
  init: () => null,
  update: (updates, state, params) => [f(updates, params), state],
})

/** −lr·u: turns a direction into a descent step */
export const scaleByLearningRate = (lr: number | Schedule): Transform<{ step: number }> => ({
  init: () => ({ step: 0 }),
  update: (updates, { step }) => {
    const rate = typeof lr === 'number' ? lr : lr(step)
    return [scaleInPlace(updates, -rate), { step: step + 1 }]
  },
})

/** u + λ·p: decay that is not seen by the moments before it  —  Loshchilov & Hutter, arXiv:1711.05101 */
export const addDecayedWeights = (decay: number, where: (name: string) => boolean = () => true): Transform<null> =>
  stateless((updates, params) => (decay ? addInPlace(updates, selectParams(params, where), decay) : updates))

/** u·min(1, max/(‖u‖+1e-6)), one norm over all tensors, as torch.nn.utils.clip_grad_norm_ */
export const clipByGlobalNorm = (max: number): Transform<null> =>
  stateless((updates) => {
    const factor = minimum(div(max, add(globalNorm(updates), 1e-6)), 1)
    return scaleInPlace(updates, factor as Scalar)
  })

/**
 * A transform per group of parameters: `of` names the group of each. Parameter groups of torch, as a value.
 * A parameter of a group that is not listed stays as it is.
 */
export const partition = (
  groups: Readonly<Record<string, Transform<any>>>,
  of: (name: string) => string,
): Transform<Readonly<Record<string, unknown>>> => {
  const members = (params: Params, group: string): Params => selectParams(params, (n) => of(n) === group)
  const names = Object.keys(groups)
  return {
    init: (params) => Object.fromEntries(names.map((g) => [g, groups[g]!.init(members(params, g))])),
    update: (grads, state, params) => {
      let updates: Params = {}
      const next: Record<string, unknown> = {}
      for (const g of names) {
        const [u, s] = groups[g]!.update(members(grads, g), state[g], members(params, g))
        updates = { ...updates, ...u }
        next[g] = s
      }
      return [updates, next]
    },
  }
}
