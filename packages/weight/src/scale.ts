import type { Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { expandDims, mul } from '@weftjs/tensor'
import { lookup } from './dense.ts'
import { rowsOf } from './sum.ts'

/** s·W, s a number or a scalar tensor */
export const scale = (s: number | Tensor, w: Weight): Weight => ({
  ...w,
  parts: typeof s === 'number' ? w.parts : { ...w.parts, scale: s },
  apply: (x) => mul(w.apply(x), s),
  dense: () => mul(w.dense(), s) as Tensor2D,
  rows: (index) => mul(rowsOf(w, index), s),
})

/** diag(s)·W: output i times s[i]; s [out] */
export const scaleRows = (s: Tensor, w: Weight): Weight => ({
  ...w,
  parts: { ...w.parts, rows: s },
  apply: (x) => mul(w.apply(x), s),
  dense: () => mul(expandDims(s, 1), w.dense()) as Tensor2D,
  rows: (index) => mul(rowsOf(w, index), lookup(expandDims(s, 1), index)),
})

/** W·diag(s): input j times s[j]; s [in] */
export const scaleColumns = (s: Tensor, w: Weight): Weight => ({
  ...w,
  parts: { ...w.parts, columns: s },
  apply: (x) => w.apply(mul(x, s)),
  dense: () => mul(w.dense(), s) as Tensor2D,
  rows: (index) => mul(rowsOf(w, index), s),
})
