import type { Tensor2D, Weight } from '@weftjs/spec'
import { linear, pad, slice } from '@weftjs/tensor'
import { dense } from './dense.ts'

/**
 * Zero but for neighbouring rows, v [c, in], or columns, v [out, c], the first of which is number `from`. Of x only the
 * columns that v reads are kept for its gradient.
 */
export const slices = (
  shape: readonly [number, number],
  axis: 'rows' | 'columns',
  from: number,
  v: Tensor2D,
): Weight => {
  const [out, input] = shape
  const [i, whole, other] = axis === 'rows' ? [0, out, input] : [1, input, out]
  const c = v.shape[i]!
  if (v.rank !== 2 || v.shape[1 - i] !== other || from < 0 || from + c > whole)
    throw new Error(`slices: [${v.shape}] from ${from} on are no ${axis} of [${shape}]`)
  const around: [number, number] = [from, whole - from - c]
  return {
    shape: [out, input],
    format: 'slices',
    parts: { v },
    apply: (x) => {
      if (i === 1)
        return linear(slice(x, [...x.shape.slice(0, -1).map(() => 0), from], [...x.shape.slice(0, -1), c]), v)
      const y = linear(x, v) // [..., c]
      return pad(y, [...y.shape.slice(0, -1).map((): [number, number] => [0, 0]), around]) // [..., out]
    },
    dense: () => pad(v, i === 0 ? [around, [0, 0]] : [[0, 0], around]) as Tensor2D,
    like: dense,
  }
}
