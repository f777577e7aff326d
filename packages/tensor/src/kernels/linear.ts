import { reshape, sum, type Tensor } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'
import { type Product, product, productOnto } from './product.ts'

const rows = (x: Tensor): Tensor => reshape(x, [-1, x.shape.at(-1)!])
const wide = (x: Tensor, out: number): number[] => [...x.shape.slice(0, -1), out]

const kernel = defineKernel<{ x: Tensor; w: Tensor; bias?: Tensor | undefined }>({
  name: 'Linear',
  plain: ({ x, w, bias }) => reshape(product({ a: rows(x), b: w, transposeB: true, bias }), wide(x, w.shape[0]!)),
  keeps: (wants) => [...(wants('x') ? (['w'] as const) : []), ...(wants('w') ? (['x'] as const) : [])],
  gradient: ({ dy, saved, wants, shapes, onto }) => ({
    ...(wants('x') && { x: productOnto({ a: rows(dy), b: saved.w }, onto('x'), shapes.x) }), // dy·W
    ...(wants('w') && {
      w: productOnto({ a: rows(dy), b: rows(saved.x), transposeA: true }, onto('w'), shapes.w), // dyᵀ·x
    }),
    ...(wants('bias') && { bias: sum(rows(dy), 0) }),
  }),
})

/** x·Wᵀ + bias: x [..., in], W [out, in], bias [out] or none → [..., out] */
export const linear = (x: Tensor, w: Tensor, bias?: Tensor): Tensor => {
  const [out, input] = w.shape
  if (w.rank !== 2 || x.shape.at(-1) !== input)
    throw new Error(`linear: x [${x.shape}] and W [${w.shape}] do not fit; W is [out, in], x ends in its 'in'`)
  if (bias && bias.shape.join() !== String(out)) throw new Error(`linear: a bias of [${bias.shape}] for ${out} outputs`)
  return kernel({ x, w, bias }, {})
}

interface LowRank {
  x: Tensor
  a: Tensor
  b: Tensor
  w?: Tensor | undefined
  onto?: Tensor | undefined
  bias?: Tensor | undefined
}

/** N rows, r the rank: h = s·x·Aᵀ [N, r], y = x·Wᵀ + h·Bᵀ + onto + bias [N, out] */
const forward = ({ x, w, a, b, onto, bias }: LowRank, scale: number): { y: Tensor; h: Tensor } => {
  const h = product({ a: rows(x), b: a, transposeB: true, scale })
  const more = { transposeB: true, onto: onto && rows(onto), bias }
  const y = w ? product({ a: rows(x), b: w, and: [h, b], ...more }) : product({ a: h, b, ...more })
  return { y: reshape(y, wide(x, b.shape[0]!)), h }
}

const lowRankKernel = defineKernel<LowRank & Record<string, Tensor | undefined>, { scale: number }>({
  name: 'LinearLowRank',
  plain: (inputs, { scale }) => forward(inputs, scale).y,
  ahead: (inputs, { scale }) => {
    const { y, h } = forward(inputs, scale)
    return { y, saved: { h } }
  },
  keeps: (wants) => [
    ...(wants('x') ? ['a', 'b', 'w'] : wants('a') ? ['b'] : []),
    ...(wants('a') || wants('w') ? ['x'] : []),
  ],
  gradient: ({ dy, saved, attrs: { scale }, wants, shapes, onto }) => {
    const { x, a, b, w, h } = saved as Record<string, Tensor>
    const d = rows(dy)
    const dh = wants('x') || wants('a') ? product({ a: d, b: b!, scale }) : undefined // s·dy·B [N, r]
    const dx = (): Product => (w ? { a: d, b: w, and: [dh!, a!] } : { a: dh!, b: a! }) // dy·W + dh·A
    return {
      ...(wants('x') && { x: productOnto(dx(), onto('x'), shapes['x']!) }),
      ...(wants('w') && { w: product({ a: d, b: rows(x!), transposeA: true }) }), // dyᵀ·x
      ...(wants('a') && { a: product({ a: dh!, b: rows(x!), transposeA: true }) }), // dhᵀ·x
      ...(wants('b') && { b: product({ a: d, b: h!, transposeA: true }) }), // dyᵀ·h
      ...(wants('onto') && { onto: dy }),
      ...(wants('bias') && { bias: sum(d, 0) }),
    }
  },
})

const checked = (name: string, x: Tensor, a: Tensor, b: Tensor, out: number | undefined): void => {
  if (x.shape.at(-1) !== a.shape[1] || a.shape[0] !== b.shape[1] || b.shape[0] !== out)
    throw new Error(
      `${name}: x [${x.shape}], A [${a.shape}] and B [${b.shape}] do not fit ${out} outputs; A is [r, in], B [out, r]`,
    )
}

/**
 * x·Wᵀ + s·(x·Aᵀ)·Bᵀ + bias without a second [..., out]: x [..., in], W [out, in], A [r, in], B [out, r], bias [out] or
 * none → [..., out]. Keeps s·x·Aᵀ [..., r] for the gradients.
 */
export const linearLowRank = (x: Tensor, w: Tensor, a: Tensor, b: Tensor, scale = 1, bias?: Tensor): Tensor => {
  checked('linearLowRank', x, a, b, w.shape[0])
  if (x.shape.at(-1) !== w.shape[1]) throw new Error(`linearLowRank: x [${x.shape}] and W [${w.shape}] do not fit`)
  return lowRankKernel({ x, w, a, b, bias }, { scale })
}

/** y + s·(x·Aᵀ)·Bᵀ: y [..., out], x [..., in], A [r, in], B [out, r] → [..., out] */
export const addLowRank = (y: Tensor, x: Tensor, a: Tensor, b: Tensor, scale = 1): Tensor => {
  checked('addLowRank', x, a, b, y.shape.at(-1))
  return lowRankKernel({ x, a, b, onto: y }, { scale })
}
