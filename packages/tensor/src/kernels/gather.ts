import { gather, reshape, type Tensor, unsortedSegmentSum } from '@tensorflow/tfjs-core'
import { defineKernel } from '../kernel.ts'

const kernel = defineKernel<{ w: Tensor; index: Tensor }>({
  name: 'GatherRows',
  plain: ({ w, index }) => gather(w, index as never),
  keeps: () => ['index'],
  gradient: ({ dy, saved, shapes }) => ({ w: unsortedSegmentSum(dy, saved.index as never, shapes.w[0]!) }), // [n, d]
})

/** Rows of w [n, d] by index [...] int32 → [..., d]. The gradients of a row taken twice add up in the order of the index. */
export const gatherRows = (w: Tensor, index: Tensor): Tensor =>
  reshape(kernel({ w, index: reshape(index, [-1]) }, {}), [...index.shape, w.shape[1]!])
