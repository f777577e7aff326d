import { add, concat, mul, neg, split, sub, type Tensor } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

const rotate = (x: Tensor, cos: Tensor, sin: Tensor): Tensor => {
  const [a, b] = split(x, 2, -1) as [Tensor, Tensor] // [B, H, T, S/2] each
  return concat([sub(mul(a, cos), mul(b, sin)), add(mul(b, cos), mul(a, sin))], -1)
}

const kernel = defineKernel<{ x: Tensor; cos: Tensor; sin: Tensor }>({
  name: 'Rotary',
  plain: ({ x, cos, sin }) => rotate(x, cos, sin),
  keeps: () => ['cos', 'sin'],
  gradient: ({ dy, saved: { cos, sin } }) => ({ x: rotate(dy, cos, neg(sin)) }),
})

/**
 * Rotary position embedding, halves as in Llama: (a, b) → (a·cos − b·sin, b·cos + a·sin).
 * x [B, H, T, S]; cos, sin [1 or B, 1, T, S/2], constants  —  Su et al., arXiv:2104.09864
 */
export const rotary = (x: Tensor, cos: Tensor, sin: Tensor): Tensor => kernel({ x, cos, sin }, {})
