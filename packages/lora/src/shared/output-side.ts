import type { Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { compose, lowRank, mapped, scale, sum } from '@weftjs/weight'

/** (I + s·B·A)·W: what a low-rank map adds to the output y = W·x, from y itself; b [out, r], a [r, out] */
export const outputSide = (base: Weight, b: Tensor2D, a: Tensor2D, s: number | Tensor): Weight => {
  const [out] = base.shape
  const identity = mapped([out, out], {}, (y) => y)
  return { ...compose(sum(identity, scale(s, lowRank(b, a))), base), like: base.like }
}

/** W·(I + s·B·A): the same from the input; b [in, r], a [r, in] */
export const inputSide = (base: Weight, b: Tensor2D, a: Tensor2D, s: number | Tensor): Weight => {
  const [, input] = base.shape
  const identity = mapped([input, input], {}, (x) => x)
  return compose(base, sum(identity, scale(s, lowRank(b, a))))
}
