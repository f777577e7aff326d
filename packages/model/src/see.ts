import type { Adapter, Batch, Codec, Network, Statistic, Tensor, Weight } from '@weftjs/spec'
import { clone, dispose, keep, rng, slice, tidy } from '@weftjs/tensor'
import { tunedOf } from './attach.ts'
import { type Binding, type Bound, bind } from './bind.ts'
import { type CalibrateOptions, calibrate } from './calibrate.ts'
import { type CalibrationCache, cached } from './calibration-file.ts'
import type { TransformerConfig } from './config.ts'
import { withBlocks } from './few-blocks.ts'
import { inputsOf, targetsIn } from './loss.ts'
import { match } from './match.ts'
import { type Calibrated, disposeSeen, seenOf } from './seen.ts'

export interface SeeingOptions {
  /** bytes of what goes into a block that are kept from block to block; batches beyond run through all blocks before */
  readonly hold?: number
  /** stops between two batches; the promise is rejected with the signal's reason */
  readonly signal?: AbortSignal
  /** after each batch of `of`: which matrices are looked at, or none while what goes into the block is made */
  readonly onProgress?: (done: { batches: number; of: number; block: number; names: readonly string[] }) => void
  /** where the statistics of these matrices are kept between two runs: `(names) => calibrationFile(…)` in Node */
  readonly cache?: (names: readonly string[]) => CalibrationCache | undefined
}
/** The `see` of `quantize`. */
export interface Sight {
  (
    network: Network<TransformerConfig>,
    names: readonly string[],
    codec: Pick<Codec<any>, 'calibrates'>,
    statistics?: readonly Statistic[],
  ): Promise<Record<string, Calibrated>>
  /** gives up what is kept: what goes into the block that was last looked at, and the last statistics */
  dispose(): void
}

/** the number of a block, -1 outside of them */
const blockOf = (name: string): number => Number(/^blocks\.(\d+)\./.exec(name)?.[1] ?? -1)
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)
/** gradients come from the loss, which is behind the last block */
const BACKWARD: readonly Statistic[] = ['gradient', 'fisher']

/** something that stands around a place */
const standing = ({ sites }: Binding, name: string, around: NonNullable<Adapter['around']>): Bound => ({
  site: sites.find((s) => s.name === name)!,
  adapter: { name: 'see', init: () => ({ state: {} }), around },
  name: 'see',
  prefix: `${name}.see`,
  keys: [],
  base: undefined,
})

/** what comes out of blocks [from, to), of `x` going into the first, or of the embedding */
const through = async (binding: Binding, [from, to]: [number, number], batch: Batch, x?: Tensor): Promise<Tensor> => {
  const some = withBlocks(binding, range(from, to))
  let y: Tensor | undefined
  const last = standing(some, `blocks.${to - from - 1}`, (next, h) => {
    const out = next(h)
    y = keep(clone(out))
    return out
  })
  const first = standing(some, 'blocks.0', (next, h) => next(x ?? h))
  tidy(() => {
    tunedOf({ ...some, bound: [first, last] }).run({}, inputsOf(batch))
  })
  const one = slice(y!, [0, 0, 0], [1, 1, 1])
  await one.data() // a device is never more than a batch behind
  one.dispose()
  return y!
}

/**
 * Looks at what matrices read while a network is quantized, with what is quantized by then: GPTQ's true sequential order,
 * and as well for AWQ, importance and sensitivities. What goes into a block is kept for each batch and carried on block by
 * block, so that a stage costs a pass through its block and not through the network. Statistics of gradients, and matrices
 * outside of the blocks, cost whole passes.
 *
 * `const see = seeing(batches); const small = await quantize(network, gptq(), { see }); see.dispose()`
 * @throws Error where no batch has a target; a matrix that no token reaches is named by `quantize`
 */
export const seeing = (
  batches: readonly Batch[],
  { hold = 2 ** 30, signal, onProgress, cache }: SeeingOptions = {},
): Sight => {
  const data = batches.filter((b) => targetsIn(b) > 0)
  if (!data.length)
    throw new Error('seeing: no batch has a target; give some data, and labels other than -100 where it counts')
  /** what goes into block `at` of each batch, where there is room, and the weights that it has passed */
  let held: { at: number; states: (Tensor | undefined)[]; by: [string, Weight][] } | undefined
  let newest: Record<string, Calibrated> = {}

  const forget = (): void => {
    disposeSeen(newest)
    newest = {}
  }
  const drop = (): void => {
    if (held) dispose(held.states.filter((t) => t !== undefined))
    held = undefined
  }

  /** brings what is held to where it goes into block `to` */
  const advance = async (binding: Binding, to: number): Promise<(Tensor | undefined)[]> => {
    const { weights, config } = binding.network
    if (held && (held.at > to || held.by.some(([name, w]) => weights[name] !== w))) drop()
    const from = held?.at ?? 0
    held ??= { at: 0, states: data.map(() => undefined), by: [] }
    const { states } = held
    if (from === to) return states
    let room = hold
    try {
      for (const [i, batch] of data.entries()) {
        signal?.throwIfAborted()
        room -= 4 * batch.shape[0] * batch.shape[1] * config.width
        const x = states[i]
        if (from ? !x : room < 0) continue
        states[i] = await through(binding, [from, to], batch, x)
        x?.dispose()
        onProgress?.({ batches: i + 1, of: data.length, block: to, names: [] })
      }
    } catch (error) {
      drop() // some are further than others
      throw error
    }
    const by = Object.entries(weights).filter(([n]) => n === 'embed' || (blockOf(n) >= 0 && blockOf(n) < to))
    held = { at: to, states, by }
    return states
  }

  /** statistics of what matrices of one block read */
  const watch = async (
    binding: Binding,
    block: number,
    names: readonly string[],
    statistics: readonly Statistic[],
  ): Promise<Record<string, Calibrated>> => {
    const states = await advance(binding, block)
    const small = withBlocks(binding, [block])
    let x: Tensor | undefined
    const enter = standing(small, 'blocks.0', (next, h) => next(x ?? h))
    // nobody looks behind the attention
    const attention = names.every((n) => n.startsWith(`blocks.${block}.attn.`))
    const stop = attention ? [standing(small, 'blocks.0.mlp', (_, h) => h)] : []
    const tuned = tunedOf({ ...small, bound: [enter, ...stop] })
    const feed = async function* (): AsyncGenerator<Batch> {
      for (const [i, batch] of data.entries()) {
        x = states[i] ?? (block ? await through(binding, [0, block], batch) : undefined)
        try {
          yield batch
        } finally {
          if (x !== states[i]) x?.dispose()
          x = undefined
        }
      }
    }
    const real = new Map(names.map((n) => [n.replace(/^blocks\.\d+/, 'blocks.0'), n]))
    const options: CalibrateOptions = {
      ...{ statistics, at: ({ name }) => real.has(name), ...(signal && { signal }) },
      onProgress: ({ batches }) => onProgress?.({ batches, of: data.length, block, names }),
    }
    const pass = (): Promise<Record<string, Calibrated>> => calibrate(tuned, feed(), options)
    const file = cache?.(names)
    // what goes into the block is told by all that is before it
    const { network } = file ? withBlocks(binding, range(0, block + 1)) : small
    const asked = { tuned: { ...tuned, network }, params: {}, sites: match(tuned.sites, options.at!), statistics }
    const found = file ? await cached(file, { ...asked, batches: data, signal }, pass) : await pass()
    return Object.fromEntries(
      Object.entries(found).map(([name, { rows, batches, tensors }]) => {
        const own = real.get(name)!
        return [own, seenOf(own, rows, batches, tensors)]
      }),
    )
  }

  const see = async (
    network: Network<TransformerConfig>,
    names: readonly string[],
    codec: Pick<Codec<any>, 'calibrates'>,
    statistics: readonly Statistic[] = codec.calibrates ?? [],
  ): Promise<Record<string, Calibrated>> => {
    forget()
    const binding = bind(network, [], rng(0))
    const near = statistics.filter((s) => !BACKWARD.includes(s))
    const far = statistics.filter((s) => BACKWARD.includes(s))
    const add = (more: Readonly<Record<string, Calibrated>>): void => {
      for (const [name, s] of Object.entries(more)) {
        const { rows = 0, tensors } = newest[name] ?? {}
        newest[name] = seenOf(name, Math.max(rows, s.rows), s.batches, { ...tensors, ...s.tensors })
      }
    }
    const whole = async (at: readonly string[], statistics: readonly Statistic[]): Promise<void> => {
      if (at.length && statistics.length)
        add(await calibrate(network, data, { statistics, at, ...(signal && { signal }) }))
    }
    for (const block of new Set(names.map(blockOf).sort((a, b) => a - b)))
      if (block >= 0 && near.length)
        add(
          await watch(
            binding,
            block,
            names.filter((n) => blockOf(n) === block),
            near,
          ),
        )
    await whole(
      names.filter((n) => blockOf(n) < 0),
      near,
    )
    await whole(names, far)
    return newest
  }
  return Object.assign(see, {
    dispose: () => {
      forget()
      drop()
    },
  })
}
