import type { Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { gatherRows, linear } from '@weftjs/tensor'
import { know } from './known.ts'

/** W as it is, w [out, in] */
export const dense = (w: Tensor2D): Weight =>
  know(
    {
      shape: w.shape,
      format: 'dense',
      parts: { weight: w },
      apply: (x) => linear(x, w),
      dense: () => w,
      like: dense,
      rows: (index) => lookup(w, index),
    },
    { matrix: w, affine: (x, bias) => linear(x, w, bias) },
  )

/** rows of w [n, d] by index [...] int32 → [..., d] */
export const lookup = (w: Tensor, index: Tensor): Tensor => gatherRows(w, index)
