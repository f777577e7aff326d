import type { Tensor } from '@weftjs/tensor'
import { loopKernel } from './loop.ts'

const kernel = loopKernel<{ n: number; width: number; back: number }>({
  name: 'OrderColumns',
  dtype: 'float32',
  shape: ({ n }) => [n],
  run: ([x, order], out, { n, width, back }) => {
    // in a file that says so, a column may be none; then the first is as good as any
    const from = Int32Array.from({ length: width }, (_, j) => {
      const column = order![back * width + j]!
      return column >= 0 && column < width ? column : 0
    })
    for (let at = 0; at < n; at += width) for (let j = 0; j < width; j++) out[at + j] = x![at + from[j]!]!
  },
  wgsl: {
    inputs: ['X', 'O'],
    numbers: ['n', 'width', 'back'],
    body: `
  let j = index % uniforms.width;
  result[index] = X[index - j + clamp(O[uniforms.back * uniforms.width + j], 0, uniforms.width - 1)];`,
  },
})

/**
 * Columns of x [..., width], flat, as they are stored, or with `back` stored ones as they were: order [2, width] int32, the
 * column that each stored one is, and where each column is stored.
 */
export const orderColumns = (x: Tensor, order: Tensor, back = false): Tensor =>
  kernel([x, order], { n: x.size, width: order.size / 2, back: back ? 1 : 0 })
