import type { Params, Transform } from '@weftjs/spec'
import { mapParams, mul } from '@weftjs/tensor'

/**
 * Gradients and updates times a mask of 0 and 1 by name; a tensor without a mask moves as it would. The updates, too, so
 * that nothing decays where nothing trains: phase 2 of LT-SFT, HFT within a tensor.
 */
export const masked = <S>(masks: Params, inner: Transform<S>): Transform<S> => {
  const cut = (params: Params): Params =>
    mapParams(params, (t, name) => {
      const mask = masks[name]
      if (!mask) return t
      if (mask.shape.join() === t.shape.join()) return mul(t, mask)
      throw new Error(`${name}: a mask [${mask.shape}] for a tensor [${t.shape}]`)
    })
  return {
    init: inner.init,
    update: (grads, state, params) => {
      const [updates, next] = inner.update(cut(grads), state, params)
      return [cut(updates), next]
    },
  }
}
