import type { Params, Tensor2D, Weight } from '@weftjs/spec'
import { linear, matMul, transpose } from '@weftjs/tensor'
import { rowsOf } from './sum.ts'

/** A·B: B acts first. `like` keeps the format of A. */
export const compose = (a: Weight, b: Weight): Weight => {
  if (a.shape[1] !== b.shape[0]) throw new Error(`compose: [${a.shape}] cannot follow [${b.shape}]`)
  const parts: Params = Object.fromEntries([
    ...Object.entries(a.parts).map(([n, t]) => [`0.${n}`, t] as const),
    ...Object.entries(b.parts).map(([n, t]) => [`1.${n}`, t] as const),
  ])
  return {
    shape: [a.shape[0], b.shape[1]],
    format: 'compose',
    parts,
    apply: (x) => a.apply(b.apply(x)),
    dense: () => matMul(a.dense(), b.dense()) as Tensor2D,
    like: a.like,
    rows: (index) => linear(rowsOf(a, index), transpose(b.dense())),
  }
}
