import type { Estimator, Params, Rng, Scalar, Tensor, Transform } from '@weftjs/spec'
import {
  addInPlace,
  backprop,
  clone,
  disposeReplaced,
  keep,
  keepParams,
  mapParams,
  memory,
  rng as newRng,
  orAtOnce,
  scaleInPlace,
  tensorsIn,
  tidy,
  untaped,
} from '@weftjs/tensor'
import { type Revised, revisedState } from './revised.ts'

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
  /** `params` and `state` are given away: they are changed in place or disposed, so that no second copy of them exists */
  readonly consume?: boolean
  readonly step?: number
  /** stop after this many steps in all; otherwise when the data end */
  readonly steps?: number
  /** batches per step; their gradients are averaged by weight, and a last group that is short makes no step */
  readonly accumulate?: number
  /** what a batch counts for in that average, say its targets; 1 by default */
  weight?(batch: B): number
  readonly seed?: number
  /**
   * called after each step of the optimizer, with the gradients of that step, in a tidy: a method that prunes, grows or moves
   * what trains. `step` steps are done, this one included. Where it throws since a GPU cannot be read at once, all this and
   * what `reads` gives is fetched, and it is called again to compute in plain JavaScript
   */
  readonly revise?: ((params: Params, grads: Params, step: number) => Revised) & { reads?(): readonly Tensor[] }
  readonly signal?: AbortSignal
}

/**
 * What one step leaves. The tensors are the trainer's: the next step changes them in place where that is sound, and
 * disposes the others; a clone keeps its values. The last params are yours.
 */
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

/** `held`: the gradients, where a revision is to come */
type Stepped = { params: Params; state: any; held?: Params }

/**
 * Gradient descent as an async iterator: stop consuming and it stops. Inputs stay as they are unless `consume` is set;
 * every step's tensors are owned here, so that the count of tensors is flat.
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
    consume = false,
    revise,
    signal,
  } = options
  // clones share their data until the first step is written
  let params = consume ? options.params : tidy(() => keepParams(mapParams(options.params, (p) => clone(p))))
  let state =
    options.state === undefined
      ? tidy(() => kept(transform.init(params)))
      : consume
        ? options.state
        : copy(options.state)
  let step = options.step ?? 0
  const noise = newRng(seed)
  const revisedFrom = ({ params, state, held }: Stepped): Stepped => {
    const shapes = mapParams(params, (p) => p.shape) as Record<string, number[]>
    const revised = revise!(params, held!, step + 1)
    return { params: revised.params, state: revisedState(state, shapes, revised, () => transform.init(revised.params)) }
  }
  let pending: B[] = []
  let losses: Reading[] = []
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
      const stepped = tidy((): Stepped => {
        let grads: Params | undefined
        for (const [i, b] of batches.entries()) {
          const share = batches.length === 1 ? 1 : weight(b) / total
          const context = { step, rng: noise.fork(`${step}.${i}`) }
          const found = estimate((p) => {
            const value = loss(p, b, context)
            // backprop asks once: a GPU computes the number while the backward pass is queued
            if (estimate === backprop) losses.push(reading(value, share))
            return value
          }, params)
          if (estimate !== backprop) losses.push(reading(found.loss, share))
          const sum = grads ? addInPlace(grads, found.grads, share) : scaled(found.grads, share)
          disposeReplaced([grads, found], sum)
          grads = sum
        }
        // the update may consume the gradients; clones share their data until it does
        const held = revise && mapParams(grads!, (g) => clone(g))
        const [updates, after] = transform.update(grads!, state, params)
        const moved = addInPlace(params, updates)
        return kept({ params: moved, state: after, ...(held && { held }) })
      })
      disposeReplaced([params, state], [stepped.params, stepped.state])
      ;({ params, state } = stepped)
      if (stepped.held) {
        try {
          const reads = (): Tensor[] => [...tensorsIn(stepped), ...(revise!.reads?.() ?? [])]
          ;({ params, state } = await orAtOnce(reads, () => tidy(() => kept(revisedFrom(stepped)))))
        } finally {
          disposeReplaced(stepped, [params, state])
        }
      }
      step++
      const number = await totalOf(losses)
      losses = []
      const { numBytes, numTensors } = memory()
      yield {
        step,
        loss: number,
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
    for (const { tensor, data } of losses) {
      data.catch(() => {}) // there is an error already
      tensor.dispose()
    }
    disposeReplaced(state, params)
  }
}

/** a loss on its way from the device, and what it counts for */
interface Reading {
  readonly tensor: Tensor
  readonly data: Promise<ArrayLike<number>>
  readonly share: number
}
const reading = (loss: Scalar, share: number): Reading => {
  const tensor = untaped(() => keep(clone(loss)))
  return { tensor, data: tensor.data(), share }
}
const totalOf = async (losses: readonly Reading[]): Promise<number> => {
  let sum = 0
  for (const { tensor, data, share } of losses) {
    sum += share * (await data)[0]!
    tensor.dispose()
  }
  return sum
}

const scaled = (grads: Params, share: number): Params => (share === 1 ? grads : scaleInPlace(grads, share))
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
