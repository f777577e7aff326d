import type { Batch, Params, Scalar, Tensor } from '@weftjs/spec'
import {
  add,
  crossEntropy,
  gatherRows,
  logSoftmax,
  mul,
  neg,
  oneHot,
  reshape,
  sum,
  tensor,
  tensor1d,
  tidy,
} from '@weftjs/tensor'
import type { ForwardOptions, Pass, Tuned } from './attach.ts'
import type { Inputs } from './transformer.ts'

/** A batch as tensors. Positions and segments are left out where a plain causal pass already means the same. */
export const inputsOf = ({ shape, ids, positions, segments }: Batch): Inputs => {
  const [B, T] = shape
  const t = (values: Int32Array): Tensor => tensor(values, [B, T], 'int32')
  // right padding needs no mask under causal attention: nothing that counts looks at it
  const packed = segments.some((s) => s > 1)
  return { ids: t(ids), ...(packed && { positions: t(positions), segments: t(segments) }) }
}

/** places of a batch that the loss is measured on */
export const targetsIn = ({ targets }: Pick<Batch, 'targets'>): number =>
  targets.reduce((n, t) => n + (t >= 0 ? 1 : 0), 0)

/** places are taken in multiples of so many, so that few shapes occur */
const TOGETHER = 64

/**
 * Numbers of the places that the loss looks at: those with a target, filled up with others to a multiple. Undefined
 * where that is almost all of them.
 */
const placesOf = (targets: Int32Array): Int32Array | undefined => {
  const order = [true, false].flatMap((counted) =>
    Array.from(targets.keys()).filter((i) => targets[i]! >= 0 === counted),
  )
  const most = Math.ceil(targetsIn({ targets }) / TOGETHER) * TOGETHER
  return most < 0.9 * targets.length ? Int32Array.from(order.slice(0, most)) : undefined
}

/**
 * Mean cross-entropy over the places that have a target, in nats, plus what adapters add. For causal models the targets
 * are the next tokens; for masked ones the tokens themselves, for classifiers one class a row (shape [B, 1]).
 */
export const nextToken = (
  { hidden, head, headWeight, penalty, softcap }: Pass,
  batch: Pick<Batch, 'targets' | 'shape'>,
): Scalar => {
  const { targets, shape } = batch
  const counted = targetsIn(batch)
  if (!counted)
    throw new Error('the batch has no target at all: every label is -100; check the loss mask and the length')
  const N = shape[0] * shape[1]
  const places = headWeight && placesOf(targets)
  const looked = places ? Int32Array.from(places, (i) => targets[i]!) : targets
  const ids = tensor1d(
    looked.map((t) => Math.max(t, 0)),
    'int32',
  )
  const weights = tensor1d(Float32Array.from(looked, (t) => (t >= 0 ? 1 / counted : 0)))
  const plain = (): Tensor => {
    const logits = head(hidden)
    const scores = logSoftmax(reshape(logits, [N, logits.shape.at(-1)!])) // [N, V]
    return neg(sum(mul(sum(mul(scores, oneHot(ids, scores.shape[1]!)), 1), weights)))
  }
  const rows = reshape(hidden, [N, -1])
  const loss = headWeight
    ? crossEntropy(places ? gatherRows(rows, tensor1d(places, 'int32')) : rows, headWeight.dense(), ids, weights, {
        softcap,
      })
    : plain()
  return (penalty ? add(loss, penalty) : loss) as Scalar
}

/**
 * Mean loss per target over batches, without training; undefined where none has a target. `between` is awaited after
 * each batch, so that a page can draw.
 */
export const meanLoss = async (
  tuned: Tuned,
  params: Params,
  batches: readonly Batch[],
  between?: () => Promise<void>,
  options: Pick<ForwardOptions, 'adapters'> = {},
): Promise<number | undefined> => {
  let [sum, count] = [0, 0]
  for (const batch of batches) {
    const n = targetsIn(batch)
    if (!n) continue
    const loss = tidy(() => nextToken(tuned.run(params, inputsOf(batch), options), batch))
    sum += (await loss.data())[0]! * n
    count += n
    loss.dispose()
    await between?.()
  }
  return count ? sum / count : undefined
}
