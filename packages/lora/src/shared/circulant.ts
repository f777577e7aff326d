import type { Tensor, Tensor2D, Tensor3D, Weight } from '@weftjs/spec'
import { concat, linear, reshape, slice, tile, transpose } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'

/** D [..., b, b] of w [m, n, b]: entry (k, j) of a block is w[(j − k) mod b], each row the one above it moved right by one */
const blocks = (w: Tensor3D): Tensor => {
  const [m, n, b] = w.shape
  if (b === 1) return reshape(w, [m, n, 1, 1])
  // w on and on, read in rows of b − 1: each begins one earlier in w than the row above
  const flat = slice(tile(w, [1, 1, b]), [0, 0, 0], [m, n, b * b - 1])
  const rows = reshape(flat, [m, n, b + 1, b - 1])
  const last = slice(rows, [0, 0, 1, 0], [m, n, b, 1])
  return concat([slice(rows, [0, 0, 0, 0], [m, n, b, b - 1]), last], -1)
}

/** blocks that are circulant: w [m, n, b], each block by its first row → [m·b, n·b] */
export const circulant = (w: Tensor3D): Weight => {
  const [m, n, b] = w.shape
  const whole = (): Tensor2D => reshape(transpose(blocks(w), [0, 2, 1, 3]), [m * b, n * b]) as Tensor2D
  return {
    shape: [m * b, n * b],
    format: 'circulant',
    parts: { w },
    // by the Fourier transform it would be (in + out)·log b; no backend has that with a gradient, so the rows are spread out
    apply: (x) => linear(x, whole()),
    dense: whole,
    like: dense,
  }
}
