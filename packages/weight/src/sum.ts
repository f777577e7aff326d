import type { Params, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add } from '@weftjs/tensor'
import { lookup } from './dense.ts'

const partsOf = (weights: readonly Weight[]): Params =>
  Object.fromEntries(weights.flatMap((w, i) => Object.entries(w.parts).map(([n, t]) => [`${i}.${n}`, t])))

/** W₁ + W₂ + ...; `like` keeps the format of the first, which is the base */
export const sum = (...weights: readonly Weight[]): Weight => {
  const first = weights[0]
  if (!first) throw new Error('sum: needs at least one weight')
  const odd = weights.find((w) => w.shape.join() !== first.shape.join())
  if (odd) throw new Error(`sum: shapes [${first.shape}] and [${odd.shape}] differ`)
  const total = (f: (w: Weight) => Tensor): Tensor => weights.map(f).reduce((a, b) => add(a, b))
  return {
    shape: first.shape,
    format: 'sum',
    parts: partsOf(weights),
    apply: (x) => total((w) => w.apply(x)),
    dense: () => total((w) => w.dense()) as Tensor2D,
    like: first.like,
    rows: (index) => total((w) => rowsOf(w, index)),
  }
}

/** rows of any weight, from its dense form where it has no better way */
export const rowsOf = (w: Weight, index: Tensor): Tensor => w.rows?.(index) ?? lookup(w.dense(), index)
