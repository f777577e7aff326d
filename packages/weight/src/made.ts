import type { Params, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { defineKernel, gradients, isLive, linear, matMul, reshape } from '@weftjs/tensor'
import { dense } from './dense.ts'

interface Attrs {
  readonly make: (parts: Params) => Tensor2D
}
type Inputs = Record<string, Tensor | undefined>

/** The matrix lives within one product, forward and backward, and is made again for the second. */
const product = defineKernel<Inputs, Attrs>({
  name: 'MadeMatMul',
  plain: ({ x, ...parts }, { make }) => linear(x!, make(parts as Params)),
  gradient: ({ dy, saved, attrs: { make }, wants, shapes }) => {
    const { x, y: _, ...parts } = saved
    const rows = reshape(dy, [-1, dy.shape.at(-1)!])
    const names = Object.keys(parts).filter(wants)
    if (!names.length) return { x: reshape(matMul(rows, make(parts)), [...shapes['x']!]) }
    const { value, grads } = gradients(
      () => make(parts),
      names.map((n) => parts[n]!),
      matMul(rows, reshape(x!, [-1, x!.shape.at(-1)!]), true), // dyᵀ·x [out, in]
    )
    const found = Object.fromEntries(names.map((n, i) => [n, grads[i]!]))
    return wants('x') ? { ...found, x: reshape(matMul(rows, value), [...shapes['x']!]) } : found
  },
})

/**
 * A matrix [out, in] that `make` computes of `parts`, where there is no shorter way to apply it: nothing of it is held for
 * the gradients. What else `make` reads must outlive the step; `reads` names such of it as may train.
 */
export const made = (
  shape: readonly [out: number, input: number],
  parts: Params,
  make: (parts: Params) => Tensor2D,
  reads: Params = {},
): Weight => ({
  shape,
  format: 'made',
  parts,
  apply: (x) => (Object.values(reads).some(isLive) ? linear(x, make(parts)) : product({ ...parts, x }, { make })),
  dense: () => make(parts),
  like: dense,
})
