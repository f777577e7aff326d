import type { Batch, Params, Rng, Scalar, Tensor } from '@weftjs/spec'
import {
  add,
  clone,
  concat,
  dispose,
  gradients,
  keep,
  mul,
  slice,
  sum,
  tensor,
  tidy,
  zeros,
  zerosLike,
} from '@weftjs/tensor'
import type { Pass, Tuned } from './attach.ts'
import { nextToken, targetsIn } from './loss.ts'
import type { Cache } from './transformer.ts'

export interface WindowedOptions {
  /** tokens of a window */
  readonly window: number
  /** noise of the run; each window has a stream of its own, the same forward and backward */
  readonly rng?: Rng
  /** awaits between windows: the place to serve others */
  readonly between?: (done: {
    readonly phase: 'forward' | 'backward'
    readonly window: number
    readonly of: number
  }) => Promise<void>
}

/** keys and values of one layer, all tokens so far: [B, G, a, S] each */
type Held = { readonly k: Tensor; readonly v: Tensor }

/** the first n tokens of x [B, G, T, S] */
const first = (x: Tensor, n: number): Tensor => slice(x, [0, 0, 0, 0], [x.shape[0]!, x.shape[1]!, n, x.shape[3]!])
const from = (x: Tensor, a: number): Tensor =>
  slice(x, [0, 0, a, 0], [x.shape[0]!, x.shape[1]!, x.shape[2]! - a, x.shape[3]!])

/**
 * ∂L/∂θ of adapters, exact, by windows of tokens: forward with keys and values kept, backward from the last to the first  —  Oliaro et al., arXiv:2402.18789
 *
 * Each window is run again in the backward pass, and asks the windows before it for the slopes of their keys and values.
 * What is held is keys, values and their slopes, and the activations of one window: with windows of w tokens of S about
 * w/S of what a whole pass keeps. It costs a second forward pass. Windows of S tokens are ordinary backpropagation.
 * @family lora
 * @throws Error for a window below 1, packed rows, models that are no decoders, adapters that add to the loss
 */
export const windowed = async (
  tuned: Tuned,
  params: Params,
  batch: Batch,
  { window, rng, between }: WindowedOptions,
): Promise<{ loss: Scalar; grads: Params }> => {
  const { config } = tuned.network
  const [B, T] = batch.shape
  if (!Number.isInteger(window) || window < 1)
    throw new Error(`windowed: window must be a whole number of at least 1, found ${window}`)
  if (config.output !== 'causal' || !config.causal)
    throw new Error(`windowed: ${config.architecture} does not predict the next token; train it in whole passes`)
  if (batch.segments.some((s) => s > 1))
    throw new Error('windowed: rows hold more than one text, whose keys a window cannot tell apart; turn packing off')
  const counted = targetsIn(batch)
  if (!counted)
    throw new Error('the batch has no target at all: every label is -100; check the loss mask and the length')
  const starts = Array.from({ length: Math.ceil(T / window) }, (_, i) => i * window)
  const names = Object.keys(params)
  const values = names.map((n) => params[n]!)
  /** columns [a, e) of an array of the batch */
  const part = (all: Int32Array, a: number, e: number): Int32Array =>
    Int32Array.from({ length: B * (e - a) }, (_, i) => all[Math.floor(i / (e - a)) * T + a + (i % (e - a))]!)
  const run = (a: number, e: number, cache: Cache): Pass =>
    tuned.run(
      params,
      { ids: tensor(part(batch.ids, a, e), [B, e - a], 'int32') },
      { cache, training: true, ...(rng && { rng: rng.fork(a) }) },
    )

  /** by layers, of all windows so far */
  let held: Held[] = []
  let slopes: Held[] = []
  let grads: Tensor[] = []
  let total: Tensor | undefined
  const replace = (old: readonly Held[], now: Held[]): Held[] => {
    dispose(old.flatMap(({ k, v }) => [k, v]))
    return now
  }
  try {
    for (const [i, a] of starts.entries()) {
      const e = Math.min(a + window, T)
      if (e === T) break // the last window has nobody to leave its keys to
      const grown: Held[] = []
      const extend: Cache['extend'] = (layer, k, v) => {
        const before = held[own(layer)]
        const all = before ? { k: concat([before.k, k], 2), v: concat([before.v, v], 2) } : { k: clone(k), v: clone(v) }
        grown[own(layer)] = { k: keep(all.k), v: keep(all.v) } // beyond the block that they are made in
        return { ...all, keys: e }
      }
      tidy(() => {
        run(a, e, { length: a, extend })
      })
      held = replace(held, grown)
      await between?.({ phase: 'forward', window: i, of: starts.length })
    }
    grads = tidy(() => values.map((p) => keep(zerosLike(p))))
    total = tidy(() => keep(zeros([])))
    for (const [i, a] of [...starts.entries()].reverse()) {
      const e = Math.min(a + window, T)
      const next = tidy(() => {
        const past = a ? held : []
        // what later windows ask of the keys and values of this one
        const asked: Tensor[] = []
        const extend: Cache['extend'] = (layer, k, v) => {
          const [before, slope] = [past[own(layer)], slopes[own(layer)]]
          if (slope) asked.push(keep(add(sum(mul(k, from(slope.k, a))), sum(mul(v, from(slope.v, a))))))
          return { ...(before ? { k: concat([before.k, k], 2), v: concat([before.v, v], 2) } : { k, v }), keys: e }
        }
        const leaves = past.flatMap(({ k, v }) => [k, v])
        const targets = part(batch.targets, a, e)
        const n = targetsIn({ targets })
        let loss: Tensor | undefined
        const found = gradients(() => {
          const pass = run(a, e, { length: a, extend })
          const own = n ? mul(nextToken(pass, { targets, shape: [B, e - a] }), n / counted) : sum(mul(pass.hidden, 0))
          if (pass.penalty)
            throw new Error(
              'windowed: an adapter here adds to the loss, which windows cannot tell apart; turn that off',
            )
          loss = keep(clone(own))
          return asked.reduce((sum, term) => add(sum, term), own)
        }, [...values, ...leaves]).grads
        dispose(asked)
        const summed = (old: Tensor, g: Tensor | null | undefined): Tensor => keep(g ? add(old, g) : add(old, 0))
        /** the slope of the keys or values before this window: what later windows had asked of them, and this one */
        const behind = (layer: number, of: 'k' | 'v'): Tensor =>
          tidy(() => {
            const g = found[values.length + 2 * layer + (of === 'k' ? 0 : 1)]
            const later = slopes[layer]?.[of]
            const here = g ?? zerosLike(past[layer]![of])
            const both = keep(later ? add(here, first(later, a)) : clone(here))
            if (g) dispose(g)
            return both
          })
        const asks = past.map((_, layer) => ({ k: behind(layer, 'k'), v: behind(layer, 'v') }))
        return { grads: grads.map((g, j) => summed(g, found[j])), total: keep(add(total!, loss!)), loss: loss!, asks }
      })
      next.loss.dispose()
      dispose([...grads, total])
      ;({ grads, total } = next)
      slopes = replace(slopes, next.asks)
      // nobody asks for the keys of the window before it again, which makes its own
      const left = Math.max(a - window, 0)
      held = replace(
        held,
        left ? tidy(() => held.map(({ k, v }) => ({ k: keep(first(k, left)), v: keep(first(v, left)) }))) : [],
      )
      await between?.({ phase: 'backward', window: starts.length - 1 - i, of: starts.length })
    }
    const result = { loss: total as Scalar, grads: Object.fromEntries(names.map((n, j) => [n, grads[j]!])) }
    total = undefined
    grads = []
    return result
  } finally {
    dispose([...held, ...slopes].flatMap(({ k, v }) => [k, v]))
    dispose([...grads, ...(total ? [total] : [])])
  }
}

const own = (layer: number | string): number => {
  if (typeof layer === 'number') return layer
  throw new Error(
    `windowed: '${layer}' keeps keys of its own in the cache, which windows do not follow; train it in whole passes`,
  )
}

/** What waits for the machine at an iteration. */
export interface Load {
  /** tokens that requests want now: one of each that is decoding, all of a prompt's that come in */
  readonly inference: number
  /** tokens of the training sequence in flight that are left in this phase, and the window that they come in */
  readonly training: number
  readonly window: number
  /** time that an iteration may take, and the time of so many tokens in one pass, as measured; neither falls as tokens grow */
  readonly budget: number
  readonly cost: (tokens: number) => number
}

/**
 * Tokens of one iteration: those of inference first, all of them, then as many of training as the time has room for, no
 * more than a window's. A pure function: whoever runs the loop holds the queues.
 */
export const coServe = ({
  inference,
  training,
  window,
  budget,
  cost,
}: Load): { inference: number; training: number } => {
  for (const [what, n] of Object.entries({ inference, training, window }))
    if (!(Number.isInteger(n) && n >= 0))
      throw new Error(`coServe: ${what} must be a whole number of tokens, found ${n}`)
  let [fits, most] = [0, Math.min(training, window)]
  while (fits < most) {
    const half = Math.ceil((fits + most) / 2)
    if (cost(inference + half) <= budget) fits = half
    else most = half - 1
  }
  return { inference, training: fits }
}
