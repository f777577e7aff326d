import type { Tensor } from '@weftjs/spec'
import { defineKernel, gather } from '@weftjs/tensor'

const kernel = defineKernel<{ x: Tensor; order: Tensor; back: Tensor }>({
  name: 'Permute',
  plain: ({ x, order }) => gather(x, order as never),
  keeps: () => ['back'],
  gradient: ({ dy, saved: { back } }) => ({ x: gather(dy, back as never) }),
})

/** The rows of x [n, ...] in another order, with `back` its inverse: the gradient is taken by it, with no sum over segments. */
export const permute = (x: Tensor, order: Tensor, back: Tensor): Tensor => kernel({ x, order, back }, {})

/** order [n] → the permutation that undoes it */
export const inverseOf = (order: ArrayLike<number>): Int32Array => {
  const back = new Int32Array(order.length)
  for (let to = 0; to < order.length; to++) back[order[to]!] = to
  return back
}
