import * as tf from '@tensorflow/tfjs-core'
import { rule, unbroadcast } from './rule.ts'

const { concat, matMul, pad, reshape, slice, stack, sum, transpose, unsortedSegmentSum } = tf

export const shape = (): void => {
  rule('Reshape', { x: [[], ({ dy, in: { x } }) => reshape(dy, x!.shape)] })
  rule('ExpandDims', { input: [[], ({ dy, in: { input } }) => reshape(dy, input!.shape)] })
  rule('BroadcastTo', { x: [[], ({ dy, in: { x } }) => unbroadcast(dy, x!.shape)] })
  rule('Transpose', {
    x: [
      [],
      ({ dy, attrs: { perm } }) => {
        const inverse: number[] = []
        ;(perm as number[]).forEach((p, i) => {
          inverse[p] = i
        })
        return transpose(dy, inverse)
      },
    ],
  })
  rule('Slice', {
    x: [
      [],
      ({ dy, in: { x }, attrs: { begin, size } }) => {
        const from = tf.slice_util.parseSliceParams(x!, begin, size)[0]!
        return pad(dy, x!.shape.map((n, i) => [from[i]!, n - from[i]! - dy.shape[i]!]) as [number, number][])
      },
    ],
  })
  rule('Concat', {
    '*': [
      [],
      ({ dy, in: all, attrs: { axis } }, input) => {
        const at = axis < 0 ? axis + dy.rank : axis
        const begin = dy.shape.map(() => 0)
        for (let i = 0; i < Number(input); i++) begin[at] = begin[at]! + all[String(i)]!.shape[at]!
        return slice(dy, begin, all[input]!.shape)
      },
    ],
  })
  rule('SplitV', { x: [[], ({ dys, attrs: { axis } }) => concat(dys as tf.Tensor[], axis)] })
  rule('Pack', {
    '*': [
      [],
      ({ dy, in: all, attrs: { axis } }, input) => {
        const begin = dy.shape.map((_, i) => (i === axis ? Number(input) : 0))
        return reshape(
          slice(
            dy,
            begin,
            dy.shape.map((n, i) => (i === axis ? 1 : n)),
          ),
          all[input]!.shape,
        )
      },
    ],
  })
  rule('Unpack', { value: [[], ({ dys, attrs: { axis } }) => stack(dys as tf.Tensor[], axis)] })
  rule('PadV2', {
    x: [
      [],
      ({ dy, in: { x }, attrs: { paddings } }) =>
        slice(
          dy,
          (paddings as number[][]).map((p) => p[0]!),
          x!.shape,
        ),
    ],
  })
  rule('Tile', {
    // [r₀·n₀, r₁·n₁, ...] read as [r₀, n₀, r₁, n₁, ...]: the repetitions are the even axes
    x: [
      [],
      ({ dy, in: { x }, attrs: { reps } }) => {
        let g = dy
        ;(reps as number[]).forEach((r, i) => {
          if (r === 1) return
          const shape = [...x!.shape.slice(0, i), r, x!.shape[i]!, ...dy.shape.slice(i + 1)]
          g = sum(reshape(g, shape), i)
        })
        return reshape(g, x!.shape)
      },
    ],
  })
  rule('Reverse', { x: [[], ({ dy, attrs: { dims } }) => tf.reverse(dy, dims)] })
  rule('GatherV2', {
    x: [
      ['indices'],
      ({ dy, in: { x }, saved: { indices }, attrs: { axis } }) => {
        const at: number = axis < 0 ? axis + x!.rank : axis
        const before = x!.shape.slice(0, at)
        const after = x!.shape.slice(at + 1)
        const size = (s: number[]): number => s.reduce((p, n) => p * n, 1)
        const flat = reshape(dy, [size(before), indices!.size, size(after)])
        const rows = transpose(flat, [1, 0, 2])
        const summed = unsortedSegmentSum(rows, reshape(indices!, [-1]) as tf.Tensor1D, x!.shape[at]!)
        return reshape(transpose(summed, [1, 0, 2]), x!.shape)
      },
    ],
    indices: [[], ({ in: { indices } }) => tf.zeros(indices!.shape)],
  })
  rule('UnsortedSegmentSum', {
    x: [['segmentIds'], ({ dy, saved: { segmentIds } }) => tf.gather(dy, segmentIds as tf.Tensor1D)],
    segmentIds: [[], ({ in: { segmentIds } }) => tf.zeros(segmentIds!.shape)],
  })
  rule('BatchMatMul', {
    a: [
      ['b'],
      ({ dy, in: { a }, saved: { b }, attrs: { transposeA, transposeB } }) =>
        unbroadcast(transposeA ? matMul(b!, dy, transposeB, true) : matMul(dy, b!, false, !transposeB), a!.shape),
    ],
    b: [
      ['a'],
      ({ dy, in: { b }, saved: { a }, attrs: { transposeA, transposeB } }) =>
        unbroadcast(transposeB ? matMul(dy, a!, true, transposeA) : matMul(a!, dy, !transposeA, false), b!.shape),
    ],
  })
}
