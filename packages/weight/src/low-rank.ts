import type { Tensor2D, Weight } from '@weftjs/spec'
import { linear, matMul, transpose } from '@weftjs/tensor'
import { dense, lookup } from './dense.ts'
import { know } from './known.ts'

/** B·A, never multiplied out to be applied: b [out, r], a [r, in] */
export const lowRank = (b: Tensor2D, a: Tensor2D): Weight => {
  if (b.shape[1] !== a.shape[0]) throw new Error(`lowRank: b [${b.shape}] and a [${a.shape}] do not share a rank`)
  const weight: Weight = {
    shape: [b.shape[0], a.shape[1]],
    format: 'low-rank',
    parts: { b, a },
    apply: (x) => linear(linear(x, a), b),
    dense: () => matMul(b, a) as Tensor2D,
    like: dense,
    rows: (index) => linear(lookup(b, index), transpose(a)), // [..., r]·A
  }
  return know(weight, { factors: { b, a, scale: 1 }, affine: (x, bias) => linear(linear(x, a), b, bias) })
}
