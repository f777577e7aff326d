import type { Estimator, Params, Rng, Scalar, Transform } from '@weftjs/spec'
import {
  add,
  applyUpdates,
  backprop,
  clone,
  dispose,
  disposeReplaced,
  keep,
  keepParams,
  mapParams,
  memory,
  mul,
  rng as newRng,
  scaleParams,
  tensorsIn,
  tidy,
} from '@weftjs/tensor'

export interface StepContext {
  readonly step: number
  /** noise of this step: the same when a run is resumed */
  readonly rng: Rng
}

export interface TrainOptions<B> {
  readonly params: Params
  readonly data: AsyncIterable<B> | Iterable<B>
  loss(params: Params, batch: B, context: StepContext): Scalar
  readonly transform: Transform<any>
  readonly estimate?: Estimator
  /** to go on from: the state and number of an earlier step */
  readonly state?: unknown
  readonly step?: number
  /** stop after this many steps in all; otherwise when the data end */
  readonly steps?: number
  /** batches per step; their gradients are averaged by weight, and a last group that is short makes no step */
  readonly accumulate?: number
  /** what a batch counts for in that average, say its targets; 1 by default */
  weight?(batch: B): number
  readonly seed?: number
  readonly signal?: AbortSignal
}

/** What one step leaves. The tensors are the trainer's until the next step; the last params are yours. */
export interface Step<B = unknown> {
  /** steps done */
  readonly step: number
  readonly loss: number
  readonly params: Params
  readonly state: unknown
  readonly batches: readonly B[]
  readonly milliseconds: number
  /** bytes of all tensors after the step, and tensors alive */
  readonly bytes: number
  readonly tensors: number
}

/**
 * Gradient descent as an async iterator: stop consuming and it stops. Inputs stay as they are; every step's tensors are
 * owned here, so that the count of tensors is flat.
 */
export async function* train<B>(options: TrainOptions<B>): AsyncGenerator<Step<B>, void, void> {
  const {
    data,
    loss,
    transform,
    estimate = backprop,
    steps = Number.POSITIVE_INFINITY,
    accumulate = 1,
    weight = () => 1,
    seed = 0,
    signal,
  } = options
  let params = tidy(() => keepParams(mapParams(options.params, (p) => clone(p))))
  let state = options.state === undefined ? tidy(() => kept(transform.init(params))) : copy(options.state)
  let step = options.step ?? 0
  const noise = newRng(seed)
  let pending: B[] = []
  try {
    if (step >= steps) return
    for await (const batch of data) {
      if (signal?.aborted) return
      pending.push(batch)
      if (pending.length < accumulate) continue
      const begun = performance.now()
      const batches = pending
      pending = []
      const total = batches.reduce((n, b) => n + weight(b), 0)
      const next = tidy(() => {
        let value: Scalar | undefined
        let grads: Params = {}
        for (const [i, b] of batches.entries()) {
          const share = weight(b) / total
          const context = { step, rng: noise.fork(`${step}.${i}`) }
          const found = estimate((p) => loss(p, b, context), params)
          const scaled =
            batches.length === 1
              ? found
              : { loss: mul(found.loss, share) as Scalar, grads: scaleParams(found.grads, share) }
          if (scaled !== found) dispose([found.loss, ...Object.values(found.grads)])
          if (!value) ({ loss: value, grads } = scaled)
          else {
            const [before, sum] = [grads, mapParams(grads, (g, n) => add(g, scaled.grads[n]!))]
            dispose([...Object.values(before), ...Object.values(scaled.grads)])
            value = add(value, scaled.loss) as Scalar
            grads = sum
          }
        }
        const [updates, after] = transform.update(grads, state, params)
        return kept({ loss: value!, params: applyUpdates(params, updates), state: after })
      })
      disposeReplaced([params, state], [next.params, next.state])
      ;({ params, state } = next)
      step++
      const [number] = await next.loss.data()
      dispose(next.loss)
      const { numBytes, numTensors } = memory()
      yield {
        step,
        loss: number!,
        params,
        state,
        batches,
        milliseconds: performance.now() - begun,
        bytes: numBytes,
        tensors: numTensors,
      }
      if (step >= steps || signal?.aborted) return
    }
  } finally {
    disposeReplaced(state, params)
  }
}

const kept = <T>(value: T): T => {
  for (const t of tensorsIn(value)) keep(t)
  return value as T
}
const copy = <T>(value: T): T => {
  if (value === null || typeof value !== 'object') return value
  const [tensor] = tensorsIn([value])
  if (tensor === (value as unknown)) return tidy(() => keep(clone(tensor!))) as T
  if (Array.isArray(value)) return value.map(copy) as T
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, copy(v)])) as T
}
