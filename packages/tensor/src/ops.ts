/**
 * The functional ops of tfjs-core that Weft uses, each with a gradient (gradients/*) and each run by the
 * conformance suite on every backend. Chained methods (`x.reshape`) are neither typed nor registered: use these.
 */
import {
  add,
  broadcastTo,
  cast,
  clone,
  div,
  floor,
  mul,
  sigmoid,
  sub,
  type Tensor,
  cumsum as tfCumsum,
  floorDiv as tfFloorDiv,
  matMul as tfMatMul,
} from '@tensorflow/tfjs-core'

export type {
  DataType,
  Rank,
  Scalar,
  Tensor,
  Tensor1D,
  Tensor2D,
  Tensor3D,
  Tensor4D,
  TensorLike,
  TypedArray,
} from '@tensorflow/tfjs-core'
export {
  abs,
  add,
  addN,
  argMax,
  argMin,
  broadcastTo,
  buffer,
  cast,
  ceil,
  clipByValue,
  clone,
  concat,
  cos,
  dispose,
  div,
  elu,
  equal,
  erf,
  exp,
  expandDims,
  eye,
  fill,
  floor,
  gather,
  greater,
  greaterEqual,
  keep,
  leakyRelu,
  less,
  lessEqual,
  log,
  log1p,
  logicalAnd,
  logicalNot,
  logicalOr,
  logSoftmax,
  max,
  maximum,
  mean,
  memory,
  min,
  minimum,
  mod,
  mul,
  neg,
  notEqual,
  oneHot,
  ones,
  onesLike,
  pad,
  pow,
  prod,
  range,
  reciprocal,
  relu,
  reshape,
  reverse,
  round,
  rsqrt,
  scalar,
  sigmoid,
  sign,
  sin,
  slice,
  softmax,
  softplus,
  split,
  sqrt,
  square,
  squaredDifference,
  squeeze,
  stack,
  step,
  sub,
  sum,
  tanh,
  tensor,
  tensor1d,
  tensor2d,
  tensor3d,
  tensor4d,
  tidy,
  tile,
  topk,
  transpose,
  unsortedSegmentSum,
  unstack,
  where,
  zeros,
  zerosLike,
} from '@tensorflow/tfjs-core'

/** x·σ(x) */
export const silu = (x: Tensor): Tensor => mul(x, sigmoid(x))

/** a + t·(b − a) */
export const lerp = (a: Tensor, b: Tensor, t: Tensor | number): Tensor => add(a, mul(sub(b, a), t))

/** the same values in another dtype; the same tensor when nothing changes */
export const toFloat = (x: Tensor): Tensor => (x.dtype === 'float32' ? clone(x) : cast(x, 'float32'))

/** running sums along `axis`, which may count from the end (tfjs's own takes only some such axes) */
export const cumsum = (x: Tensor, axis = 0, exclusive = false, reverse = false): Tensor =>
  tfCumsum(x, axis < 0 ? axis + x.rank : axis, exclusive, reverse)

/** ⌊a/b⌋ in the dtype of its inputs (in tfjs's own that depends on the backend) */
export const floorDiv = (a: Tensor, b: Tensor): Tensor =>
  a.dtype === 'int32' && b.dtype === 'int32' ? cast(tfFloorDiv(a, b), 'int32') : floor(div(a, b))

/**
 * op(a)·op(b) over the last two axes; leading axes broadcast, also where both sides do (tfjs's cpu backend cannot).
 * a [..., m, k], b [..., k, n] → [..., m, n]
 */
export const matMul = (a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor => {
  const [outerA, outerB] = [a, b].map((t) => t.shape.slice(0, -2)) as [number[], number[]]
  const rank = Math.max(outerA.length, outerB.length)
  const [fullA, fullB] = [outerA, outerB].map((s) => [...Array<number>(rank - s.length).fill(1), ...s])
  const both = fullA!.map((n, i) => (n === 1 ? fullB![i]! : n))
  const [sizeA, sizeB, size] = [fullA!, fullB!, both].map((s) => s.reduce((p, n) => p * n, 1))
  if ((sizeA === size || sizeA === 1) && (sizeB === size || sizeB === 1)) return tfMatMul(a, b, transposeA, transposeB)
  const spread = (t: Tensor): Tensor => broadcastTo(t, [...both, ...t.shape.slice(-2)])
  return tfMatMul(spread(a), spread(b), transposeA, transposeB)
}
