import type { Params, Transform } from '@weftjs/spec'

/**
 * Each tensor with an optimizer of its own: one without a gradient in a step keeps its moments and its count of steps. For
 * estimators that give the gradients of some tensors only. Nothing in it may look at all tensors at once (clip outside).
 */
export const apart = <S>(inner: Transform<S>): Transform<Readonly<Record<string, S>>> => ({
  init: (params) => Object.fromEntries(Object.entries(params).map(([name, p]) => [name, inner.init({ [name]: p })])),
  update: (grads, state, params) => {
    const next = { ...state }
    const updates: Record<string, Params[string]> = {}
    for (const [name, g] of Object.entries(grads)) {
      const [u, s] = inner.update({ [name]: g }, state[name]!, { [name]: params[name]! })
      Object.assign(updates, u)
      next[name] = s
    }
    return [updates, next]
  },
})
