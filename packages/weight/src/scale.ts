import type { Params, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { expandDims, mul } from '@weftjs/tensor'
import { lookup } from './dense.ts'
import { know, knownOf } from './known.ts'
import { rowsOf } from './sum.ts'

/** parts with one more, under a name that is free: scales of scales keep both */
const withPart = (parts: Params, name: string, t: Tensor): Params => {
  let free = name
  while (Object.hasOwn(parts, free)) free += '_'
  return { ...parts, [free]: t }
}

/** what is left of a weight that is multiplied by something: it is no longer stored in a codec's format alone */
const unnamed = ({ codec: _, ...w }: Weight): Weight => ({ ...w, format: 'scaled' })

/** s·W, s a number or a scalar tensor */
export const scale = (s: number | Tensor, w: Weight): Weight => {
  const scaled: Weight = {
    ...unnamed(w),
    parts: typeof s === 'number' ? w.parts : withPart(w.parts, 'scale', s),
    apply: (x) => mul(w.apply(x), s),
    dense: () => mul(w.dense(), s) as Tensor2D,
    rows: (index) => mul(rowsOf(w, index), s),
  }
  const { factors } = knownOf(w)
  return factors && typeof s === 'number' ? know(scaled, { factors: { ...factors, scale: s * factors.scale } }) : scaled
}

/** diag(s)·W: output i times s[i]; s [out] */
export const scaleRows = (s: Tensor, w: Weight): Weight => ({
  ...unnamed(w),
  parts: withPart(w.parts, 'rows', s),
  apply: (x) => mul(w.apply(x), s),
  dense: () => mul(expandDims(s, 1), w.dense()) as Tensor2D,
  rows: (index) => mul(rowsOf(w, index), lookup(expandDims(s, 1), index)),
})

/** W·diag(s): input j times s[j]; s [in] */
export const scaleColumns = (s: Tensor, w: Weight): Weight => ({
  ...unnamed(w),
  parts: withPart(w.parts, 'columns', s),
  apply: (x) => w.apply(mul(x, s)),
  dense: () => mul(w.dense(), s) as Tensor2D,
  rows: (index) => mul(rowsOf(w, index), s),
})
