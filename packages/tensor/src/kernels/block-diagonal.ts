import { reshape, matMul as stockMatMul, type Tensor, transpose } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

/** x [M, n·q] by blocks [n, M, q] */
const byBlock = (x: Tensor, n: number): Tensor => transpose(reshape(x, [-1, n, x.shape[1]! / n]), [1, 0, 2])
/** and back */
const inRows = (y: Tensor): Tensor => reshape(transpose(y, [1, 0, 2]), [y.shape[1]!, y.shape[0]! * y.shape[2]!])

type Blocks = { x: Tensor; w: Tensor }
const kernel: (inputs: Blocks, attrs: { back: boolean }) => Tensor = defineKernel<Blocks, { back: boolean }>({
  name: 'BlockDiagonal',
  plain: ({ x, w }, { back }) => inRows(stockMatMul(byBlock(x, w.shape[0]!), w, false, !back)),
  keeps: (wants) => [...(wants('x') ? (['w'] as const) : []), ...(wants('w') ? (['x'] as const) : [])],
  gradient: ({ dy, saved: { x, w }, attrs: { back }, shapes, wants }) => ({
    ...(wants('x') && { x: kernel({ x: dy, w }, { back: !back }) }),
    // of x·Wᵀ, dyᵀ·x; of x·W, xᵀ·dy
    ...(wants('w') && { w: outer({ a: back ? x : dy, b: back ? dy : x }, { n: shapes.w[0]! }) }),
  }),
})

const outer = defineKernel<{ a: Tensor; b: Tensor }, { n: number }>({
  name: 'BlockOuter',
  plain: ({ a, b }, { n }) => stockMatMul(byBlock(a, n), byBlock(b, n), true), // [n, p, q]
})

/** x·diag(W₁, ..., Wₙ)ᵀ, no zero of it ever stored: x [..., n·q], w [n, p, q] → [..., n·p] */
export const blockProduct = (x: Tensor, w: Tensor): Tensor => {
  const [n, p] = w.shape as [number, number]
  const y = kernel({ x: reshape(x, [-1, x.shape.at(-1)!]), w }, { back: false }) // [M, n·p]
  return reshape(y, [...x.shape.slice(0, -1), n * p])
}
