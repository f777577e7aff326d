import type { Tensor, Weight } from '@weftjs/spec'
import { clone, defineKernel, matMul, reshape, tidy } from '@weftjs/tensor'

const kernel = defineKernel<{ y: Tensor }, { x: Tensor; see: (g: Tensor) => void }>({
  name: 'WatchedWeight',
  plain: ({ y }) => clone(y),
  ahead: ({ y }, { x }) => ({ y: clone(y), saved: { x } }),
  keeps: () => [],
  gradient: ({ dy, saved, attrs }) => {
    const rows = (t: Tensor): Tensor => reshape(t, [-1, t.shape.at(-1)!])
    tidy(() => {
      attrs.see(matMul(rows(dy), rows(saved['x'] as Tensor), true)) // dyᵀ·x [out, in]
    })
    return { y: dy }
  },
})

/** w, whose gradient [out, in] is shown to `see` as the backward pass comes by, and is gone when that returns */
export const watched = (w: Weight, see: (g: Tensor) => void): Weight => ({
  ...w,
  apply: (x) => kernel({ y: w.apply(x) }, { x, see }),
})
