import { matMul, reshape, type Tensor } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

const rows = (x: Tensor): Tensor => reshape(x, [-1, x.shape.at(-1)!])

const kernel = defineKernel<{ x: Tensor; w: Tensor }>({
  name: 'Linear',
  plain: ({ x, w }) => reshape(matMul(rows(x), w, false, true), [...x.shape.slice(0, -1), w.shape[0]!]),
  keeps: (wants) => [...(wants('x') ? (['w'] as const) : []), ...(wants('w') ? (['x'] as const) : [])],
  gradient: ({ dy, saved, wants, shapes }) => ({
    ...(wants('x') && { x: reshape(matMul(rows(dy), saved.w), shapes.x as number[]) }), // dy·W
    ...(wants('w') && { w: matMul(rows(dy), rows(saved.x), true, false) }), // dyᵀ·x
  }),
})

/** x [..., in]·Wᵀ → [..., out], W [out, in] */
export const linear = (x: Tensor, w: Tensor): Tensor => kernel({ x, w }, {})
