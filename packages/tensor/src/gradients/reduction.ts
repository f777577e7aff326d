import * as tf from '@tensorflow/tfjs-core'
import { type Context, rule } from './rule.ts'

const { broadcastTo, cast, cumsum, div, equal, mul, reshape, sum } = tf

/** axes as non-negative numbers; none means all */
const axesOf = (axis: number | number[] | null | undefined, rank: number): number[] =>
  (axis == null ? Array.from({ length: rank }, (_, i) => i) : [axis].flat()).map((a) => (a < 0 ? a + rank : a))
const kept = (shape: readonly number[], axes: readonly number[]): number[] =>
  shape.map((n, i) => (axes.includes(i) ? 1 : n))
const spread = (t: tf.Tensor, shape: number[], axes: number[]): tf.Tensor =>
  broadcastTo(reshape(t, kept(shape, axes)), shape)

export const reduction = (): void => {
  rule('Sum', {
    x: [[], ({ dy, in: { x }, attrs: { axis } }) => spread(dy, x!.shape, axesOf(axis, x!.rank))],
  })
  rule('Mean', {
    x: [
      [],
      ({ dy, in: { x }, attrs: { axis } }) => {
        const axes = axesOf(axis, x!.rank)
        const n = axes.reduce((p, a) => p * x!.shape[a]!, 1)
        return spread(div(dy, n), x!.shape, axes)
      },
    ],
  })
  rule('Prod', {
    // dy·y/x, which is right wherever no factor is zero; with a zero among the factors the gradient is not defined by it
    x: [
      ['x', 'y'],
      ({ dy, saved: { x, y }, attrs: { axis } }) => {
        const axes = axesOf(axis, x!.rank)
        return div(spread(mul(dy, y!), x!.shape, axes), x!)
      },
    ],
  })
  /** where the extreme is reached; a tie shares the gradient evenly, as in PyTorch's amax */
  const extreme = ({ dy, saved: { x, y }, attrs: { reductionIndices, axis } }: Context): tf.Tensor => {
    const axes = axesOf(reductionIndices ?? axis, x!.rank)
    const hit = cast(equal(x!, reshape(y!, kept(x!.shape, axes))), 'float32')
    return mul(hit, div(reshape(dy, kept(x!.shape, axes)), sum(hit, axes, true)))
  }
  rule('Max', { x: [['x', 'y'], extreme] })
  rule('Min', { x: [['x', 'y'], extreme] })
  rule('Cumsum', {
    x: [
      [],
      ({ dy, in: { x }, attrs: { axis, exclusive, reverse } }) =>
        cumsum(dy, axesOf(axis, x!.rank)[0]!, exclusive, !reverse),
    ],
  })
}
