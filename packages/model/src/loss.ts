import type { Batch, Scalar, Tensor } from '@weftjs/spec'
import { add, crossEntropy, reshape, tensor, tensor1d } from '@weftjs/tensor'
import type { Pass } from './attach.ts'
import type { Inputs } from './transformer.ts'

/** A batch as tensors. Positions and segments are left out where a plain causal pass already means the same. */
export const inputsOf = ({ shape, ids, positions, segments }: Batch): Inputs => {
  const [B, T] = shape
  const t = (values: Int32Array): Tensor => tensor(values, [B, T], 'int32')
  // right padding needs no mask under causal attention: nothing that counts looks at it
  const packed = segments.some((s) => s > 1)
  return { ids: t(ids), ...(packed && { positions: t(positions), segments: t(segments) }) }
}

/** Mean next-token cross-entropy over the places that have a target, in nats, plus what adapters add. */
export const nextToken = (
  { hidden, head, headWeight, penalty }: Pass,
  { targets, shape }: Batch,
  softcap?: number,
): Scalar => {
  const counted = targets.reduce((n, t) => n + (t >= 0 ? 1 : 0), 0)
  if (!counted)
    throw new Error('the batch has no target at all: every label is -100; check the loss mask and the length')
  const ids = tensor1d(
    targets.map((t) => Math.max(t, 0)),
    'int32',
  )
  const weights = tensor1d(Float32Array.from(targets, (t) => (t >= 0 ? 1 / counted : 0)))
  const N = shape[0] * shape[1]
  const flat = reshape(hidden, [N, -1])
  if (!headWeight) throw new Error('nextToken: this model has no plain head to score tokens with')
  void head
  const loss = crossEntropy(flat, headWeight.dense(), ids, weights, softcap ? { softcap } : {})
  return (penalty ? add(loss, penalty) : loss) as Scalar
}
