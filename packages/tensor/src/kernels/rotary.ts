import { add, concat, mul, neg, reshape, split, sub, type Tensor, transpose } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

type Inputs = { x: Tensor; cos: Tensor; sin: Tensor }

const rotate = (x: Tensor, cos: Tensor, sin: Tensor): Tensor => {
  const [a, b] = split(x, 2, -1) as [Tensor, Tensor] // [B, H, T, S/2] each
  return concat([sub(mul(a, cos), mul(b, sin)), add(mul(b, cos), mul(a, sin))], -1)
}

const kernel = defineKernel<Inputs>({
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

const headsKernel = defineKernel<Inputs, { heads: number }>({
  name: 'RotaryHeads',
  plain: ({ x, cos, sin }, { heads }) => {
    const [B, T, D] = x.shape as [number, number, number]
    return rotary(transpose(reshape(x, [B, T, heads, D / heads]), [0, 2, 1, 3]), cos, sin) // [B, H, T, S]
  },
  keeps: () => ['cos', 'sin'],
  gradient: ({ dy, saved: { cos, sin }, shapes }) => ({
    x: reshape(transpose(rotary(dy, cos, neg(sin)), [0, 2, 1, 3]), shapes.x as number[]),
  }),
})

/**
 * Splits x [B, T, H·S] into heads and rotates them: → [B, H, T, S]; cos, sin as for `rotary`. One pass, written where it
 * ends up: rotating in place would save no more, and no op can know whether somebody else still holds its input.
 * @throws Error where the heads do not divide the width
 */
export const rotaryHeads = (x: Tensor, heads: number, cos: Tensor, sin: Tensor): Tensor => {
  const width = x.shape.at(-1)!
  if (x.rank !== 3 || width % (2 * heads))
    throw new Error(`rotaryHeads: x is [B, T, heads·S] with S even, found [${x.shape}] for ${heads} heads`)
  return headsKernel({ x, cos, sin }, { heads })
}
