import { gather, reshape, type Tensor, tensor, unsortedSegmentSum } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

const kernel = defineKernel<{ w: Tensor; index: Tensor }>({
  name: 'GatherRows',
  plain: ({ w, index }) => gather(w, index as never),
  keeps: () => ['index'],
  gradient: ({ dy, saved, shapes }) => ({ w: unsortedSegmentSum(dy, saved.index as never, shapes.w[0]!) }), // [n, d]
  onGradient: {
    // tfjs goes through all of dy for each row
    cpu: ({ dy, saved, shapes }) => {
      const [n, d] = shapes.w as [number, number]
      const [slopes, rows, sum] = [dy.dataSync(), saved.index.dataSync(), new Float32Array(n * d)]
      rows.forEach((row, i) => {
        for (let j = 0; j < d; j++) sum[row * d + j]! += slopes[i * d + j]!
      })
      return { w: tensor(sum, [n, d]) }
    },
  },
})

/** Rows of w [n, d] by index [...] int32 → [..., d]. The gradients of a row taken twice add up in the order of the index. */
export const gatherRows = (w: Tensor, index: Tensor): Tensor =>
  reshape(kernel({ w, index: reshape(index, [-1]) }, {}), [...index.shape, w.shape[1]!])
