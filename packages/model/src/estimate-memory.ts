import type { Adapter, Batch, Estimator, Params, Scalar, Tensor, Transform } from '@weftjs/spec'
import {
  addInPlace,
  backprop,
  clone,
  defineKernel,
  dispose,
  disposeReplaced,
  keep,
  keepParams,
  mapParams,
  measuredApart,
  mul,
  peakBytes,
  rng,
  scaleInPlace,
  tensorsIn,
  tidy,
  zeros,
} from '@weftjs/tensor'
import { tensorsOf } from '@weftjs/weight'
import { tunedOf } from './attach.ts'
import type { Binding, Bound } from './bind.ts'
import type { TransformerConfig } from './config.ts'
import { runsOf, withBlocks } from './few-blocks.ts'
import { inputsOf, nextToken } from './loss.ts'
import { rotaryBytes, rotaryTables } from './rope.ts'

export interface EstimateMemoryOptions {
  readonly transform: Transform<any>
  /** one of the run's batches, or their shape: then every token is a target */
  readonly batch: Batch | readonly [batch: number, length: number]
  readonly estimate?: Estimator
  /** as `train` has it: batches per step, and whether params are given away */
  readonly accumulate?: number
  readonly consume?: boolean
  readonly recompute?: boolean
}
/** Bytes of tensor data. */
export interface MemoryEstimate {
  /** the most at once, in all */
  readonly bytes: number
  /** of that: the network's own weights, in their formats */
  readonly network: number
  /** of that: what the adapters hold, trained and fixed */
  readonly adapters: number
  /** of that: optimizer, gradients, activations at the worst moment */
  readonly run: number
}

/** x as it is; as its gradient passes, `mark` is called */
const passing = defineKernel<{ x: Tensor }, { mark: () => void }>({
  name: 'Passing',
  plain: ({ x }) => clone(x),
  keeps: () => [],
  gradient: ({ dy, attrs }) => {
    attrs.mark()
    return { x: clone(dy) }
  },
})

const plainBatch = ([B, T]: readonly [number, number], vocabulary: number): Batch => {
  const of = (f: (i: number) => number): Int32Array => Int32Array.from({ length: B * T }, (_, i) => f(i))
  const id = (i: number): number => (i * 7919 + 11) % vocabulary
  return {
    shape: [B, T],
    ids: of(id),
    targets: of((i) => id(i + 1)),
    positions: of((i) => i % T),
    segments: of(() => 1),
  }
}

/** most bytes above those at the beginning, by phase: `forward`, `block.J` (its backward pass), `rest`, `update` */
type Phases = ReadonlyMap<string, number>

/** Two steps on a network of few blocks, which leave nothing behind. */
const measure = (small: Binding, options: EstimateMemoryOptions, batch: Batch): Phases => {
  const { transform, estimate = backprop, accumulate = 1, consume = false, recompute = false } = options
  const peak = peakBytes()
  const before = peak.now
  const most = new Map<string, number>()
  let [phase, given] = ['forward', 0]
  const enter = (next: string): void => {
    most.set(phase, Math.max(most.get(phase) ?? 0, peak.bytes - before - given))
    peak.reset()
    phase = next
  }
  const marker = (next: string): Adapter => ({
    name: 'mark',
    init: () => ({ state: {} }),
    around: (run, x) => run(passing({ x }, { mark: () => enter(next) })),
  })
  const top = small.network.config.layers - 1
  const marks = small.sites.flatMap((site): Bound[] => {
    const next =
      site.kind === 'block'
        ? site.layer
          ? `block.${site.layer - 1}`
          : 'rest'
        : site.name === 'norm'
          ? `block.${top}`
          : ''
    return next
      ? [{ site, adapter: marker(next), name: 'mark', prefix: `${site.name}.mark`, keys: [], base: undefined }]
      : []
  })
  const tuned = tunedOf({ ...small, bound: [...small.bound, ...marks] })
  peak.reset()
  // what is given away is changed in place, so copies go; they are no part of what a run needs
  let params = tidy(() => keepParams(mapParams(small.params, (p) => (consume ? mul(p, 1) : clone(p)))))
  if (consume) given = peak.now - before
  let state: unknown = tidy(() => kept(transform.init(params)))
  for (let step = 0; step < 2; step++) {
    const next = tidy(() => {
      let grads: Params | undefined
      const losses: Scalar[] = []
      for (let i = 0; i < accumulate; i++) {
        enter('forward')
        const found = estimate((p) => {
          const pass = tuned.run(p, inputsOf(batch), { training: true, rng: rng(step), recompute })
          return nextToken(pass, batch)
        }, params)
        losses.push(found.loss)
        const share = 1 / accumulate
        const scaled = accumulate > 1 ? scaleInPlace(found.grads, share) : found.grads
        const sum = grads ? addInPlace(grads, found.grads, share) : scaled
        disposeReplaced([grads, found], sum)
        grads = sum
      }
      enter('update')
      const [updates, after] = transform.update(grads!, state, params)
      return kept({ params: addInPlace(params, updates), state: after }) as never
    }) as { params: Params; state: unknown }
    disposeReplaced([params, state], [next.params, next.state])
    ;({ params, state } = next)
  }
  enter('done')
  const own = new Set([...Object.values(small.params), ...Object.values(small.constants)])
  dispose(tensorsIn([params, state]).filter((t) => !own.has(t) && !t.isDisposed))
  return most
}
const kept = <T>(value: T): T => {
  for (const t of tensorsIn(value)) keep(t)
  return value
}

/** what a model keeps beyond its first pass */
const warm = (c: TransformerConfig, { shape: [, T] }: Batch): void => {
  for (const rope of [c.rope, c.ropeLocal]) if (rope) tidy(() => void rotaryTables(c, rope, zeros([1, T], 'int32'), T))
}

/** bytes of data behind tensors, each counted once */
const bytesOnce = (tensors: readonly Tensor[]): number => {
  const found = new Map(tensors.map((t) => [t.dataId, t]))
  return [...found.values()].reduce(
    (n, t) => n + t.size * (t.dtype === 'bool' ? 1 : t.dtype === 'complex64' ? 8 : 4),
    0,
  )
}

/**
 * The peak of a training run before it starts. Two steps are run on networks in which each run of blocks that are alike
 * stands once, and then twice, at the run's batch, optimizer and backend; each phase of a step (forward, the backward pass
 * of each block, the update) grows by the difference for every further block, and the largest of them counts. Nothing of
 * the tuned network is changed.
 */
export const estimateMemory = (binding: Binding, options: EstimateMemoryOptions): Promise<MemoryEstimate> =>
  measuredApart(async () => {
    const { network, params, constants, bound } = binding
    const { batch } = options
    const rows = 'ids' in batch ? batch : plainBatch(batch, network.config.vocabulary)
    warm(network.config, rows)
    const runs = runsOf(binding)
    const orders = (twice: number): number[] => runs.flatMap(({ first }, i) => (i === twice ? [first, first] : [first]))
    const once = measure(withBlocks(binding, orders(-1)), options, rows)
    const phases = [...once.keys()].filter((p) => p !== 'done')
    // phase of the small network → candidates of the full one
    const totals = new Map(phases.map((p) => [p, [once.get(p)!]]))
    for (const [i, { count }] of runs.entries()) {
      if (count < 2) continue
      const more = measure(withBlocks(binding, orders(i)), options, rows)
      for (const phase of phases) {
        const [, block] = /^block\.(\d+)$/.exec(phase) ?? []
        const j = Number(block)
        const names =
          block === undefined ? [phase] : j < i ? [phase] : j > i ? [`block.${j + 1}`] : [phase, `block.${i + 1}`]
        const grown = names.flatMap((n) => (more.has(n) ? [more.get(n)! - once.get(phase)!] : []))
        totals.set(
          phase,
          totals.get(phase)!.flatMap((t) => (grown.length ? grown.map((g) => t + (count - 1) * g) : [t])),
        )
      }
    }
    const run = rotaryBytes(network.config) + Math.max(...[...totals.values()].flat())
    const own = tensorsOf(network)
    const bases = bound.flatMap((b) => Object.values(b.base?.parts ?? {}))
    const all = [...own, ...Object.values(params), ...Object.values(constants), ...bases]
    const [base, whole] = [bytesOnce(own), bytesOnce(all)]
    return { bytes: whole + run, network: base, adapters: whole - base, run }
  })
