import type { Merge, MergeContext, Tensor } from '@weftjs/spec'
import { add, clone, mul, sub, tidy } from '@weftjs/tensor'

/** τᵢ → τᵢ with many zeros */
export type Sparsify = (delta: Tensor, i: number, ctx: MergeContext) => Tensor
/** several τᵢ and their weights → one */
export type Combine = (deltas: readonly Tensor[], ctx: MergeContext) => Tensor

/** base + λ·combine(sparsify(τᵢ)), τᵢ = tensorᵢ − base; the base itself for no models */
export const onDeltas =
  (sparsify: Sparsify | undefined, combine: Combine, lambda = 1): Merge =>
  (tensors, ctx) => {
    const { base, name } = ctx
    if (!base) throw new Error(`${name}: this method merges changes to a base model; name one as base_model`)
    if (!tensors.length) return clone(base)
    return tidy(() => {
      const deltas = tensors.map((t, i) =>
        tidy(() => {
          const delta = sub(t, base)
          return sparsify?.(delta, i, ctx) ?? delta
        }),
      )
      return add(base, mul(combine(deltas, ctx), lambda))
    })
  }
