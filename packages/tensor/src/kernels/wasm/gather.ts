import type { Tensor } from '@tensorflow/tfjs-core'
import { addressOf, heapBytes, output, routines } from '../../heap.ts'
import type { Faster } from '../../kernel.ts'
import * as module from '../../wasm/gather.generated.ts'

const noughts = (shape: readonly number[]): Tensor => {
  const t = output(shape)
  heapBytes(addressOf(t), 4 * t.size).fill(0)
  return t
}

/** Rows as runs of bytes; their gradients are added where the matrix has a gradient already (the head's, where it is tied). */
export const gatherRows: Faster<{ w: Tensor; index: Tensor }, Record<never, never>> = {
  forward: ({ w, index }) => {
    const [rows, width] = w.shape as [number, number]
    if (w.dtype !== 'float32' || index.dtype !== 'int32' || index.size * width === 0) return undefined
    const y = output([index.size, width])
    const wrong = routines(module)!['gatherRows']!(
      addressOf(w),
      addressOf(index),
      addressOf(y),
      index.size,
      4 * width,
      rows,
    )
    if (wrong >= 0)
      throw new Error(`gatherRows: index ${wrong} is ${index.dataSync()[wrong]}, and there are ${rows} rows`)
    return y
  },
  gradient: ({ dy, saved: { index }, onto, shapes }) => {
    if (dy.dtype !== 'float32' || dy.size === 0) return undefined
    const w = onto('w') ?? noughts(shapes.w)
    routines(module)!['addRows']!(addressOf(dy), addressOf(index), addressOf(w), index.size, 4 * dy.shape[1]!)
    return { w }
  },
}
