/**
 * The laboratory of the claims: mini learns the voice of the ship's cat, and every method gets the same data, steps and
 * grid of rates. claims/FAMILY/NAME.ts holds what is particular to a method:
 *
 *   export const recipe: Recipe   how it is trained in the comparison: by default its factory, with its own defaults, on all
 *                                 linear sites of the blocks; `null` for a method that has no place there. Choose options
 *                                 that come near LoRA's budget at rank 8 (143,360 numbers) where that can be.
 *   export const claim: Claim     the paper's checkable sentence, as a margin that is above 0 where it holds.
 *
 * `margin` is asked once for each of three seeds; `lab.run` remembers what was run before, so that many claims share one
 * LoRA. Keep a claim under a minute for all seeds (a run of 40 steps takes about 5 s).
 */
import { readFileSync } from 'node:fs'
import { toPeft } from '@weftjs/lora'
import { loadMini } from '@weftjs/mini'
import {
  type Attachment,
  attach,
  calibrate,
  complete,
  inputsOf,
  meanLoss,
  nextToken,
  revising,
  sitesOf,
  type TransformerConfig,
  type Tuned,
  targetsIn,
  tunedOf,
} from '@weftjs/model'
import { adamw, chain, clipByGlobalNorm, cosine, type Schedule, train } from '@weftjs/optim'
import type { Adapter, Batch, Estimator, Network, Params, Rng, Scalar, Site, Tokenizer, Transform } from '@weftjs/spec'
import { bytesOf, countParams, dispose, rng as newRng, peakBytes } from '@weftjs/tensor'
import { tensorsOf } from '@weftjs/weight'

export const GRID = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1] as const
/** rates that are tried beyond an end of the grid while the last one there is the best */
export const BEYOND = { up: [3e-1, 1, 3, 10], down: [3e-4, 1e-4] } as const
export const SEEDS = [0, 1, 2] as const
export const STEPS = 40
/** rows and tokens of a batch */
export const [ROWS, LENGTH] = [8, 64] as const
/** every linear site of the blocks */
export const LINEARS = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'

/** What a method is trained and measured on. */
export interface Task {
  readonly name: string
  /** the batch of a step */
  batch(seed: number, step: number): Batch
  /** the rate is chosen on it */
  readonly validation: readonly Batch[]
  readonly test: readonly Batch[]
}

export interface Setting {
  readonly network: Network<TransformerConfig>
  readonly sites: readonly Site[]
  readonly rng: Rng
  readonly steps: number
  readonly task: Task
}

/** How a method is trained. All but the name may be left out. */
export interface Recipe {
  /** says everything that tells it from other recipes: runs are remembered by it */
  readonly name: string
  readonly attachments?: (setting: Setting) => readonly Attachment[]
  /** tensors of the network that train whole */
  readonly train?: (setting: Setting) => readonly string[]
  /** another form of mini: permuted, quantized */
  readonly network?: (
    network: Network<TransformerConfig>,
  ) => Network<TransformerConfig> | Promise<Network<TransformerConfig>>
  /** AdamW without decay, gradients clipped to norm 1, by default */
  readonly transform?: (lr: Schedule, tuned: Tuned, setting: Setting) => Transform<any>
  readonly estimate?: (tuned: Tuned, setting: Setting) => Estimator
  readonly loss?: (tuned: Tuned, params: Params, batch: Batch, rng: Rng) => Scalar
}

export interface RunOptions {
  readonly seed: number
  /** by default the one of `Lab.rate` */
  readonly rate?: number
  readonly steps?: number
  readonly task?: Task
  /** run though it has been run before: for its time and its memory on this machine as it is now */
  readonly again?: boolean
}
export interface Result {
  readonly rate: number
  /** nats a token on held-out text of the task, and on the split that the rate is chosen on */
  readonly loss: number
  readonly validation: number
  /** loss on text that has nothing to do with the task, less that of the network before */
  readonly forgetting: number
  /** losses of the steps */
  readonly curve: readonly number[]
  /** of a step, on a machine that may be busy */
  readonly milliseconds: number
  /** most bytes of tensors at a time, the network included */
  readonly peak: number
  readonly trainable: number
  /** of the saved adapter */
  readonly bytes: number
}

export interface Claim {
  /** the sentence */
  readonly says: string
  /** what `margin` is, above 0 where the claim holds: `loss of LoRA less ours` */
  readonly metric: string
  margin(seed: number, lab: Lab): Promise<number> | number
  /** where it does not show at this scale, why not */
  readonly note?: string
}

export interface Lab {
  readonly network: Network<TransformerConfig>
  readonly tokenizer: Tokenizer
  readonly task: Task
  run(recipe: Recipe, options: RunOptions): Promise<Result>
  /** the best of GRID, and of what is beyond where its end is the best, on the validation split with seed 0 */
  rate(recipe: Recipe, options?: Pick<RunOptions, 'steps' | 'task'>): Promise<number>
  /** the loss of tuned values on batches */
  loss(tuned: Tuned, params: Params, batches: readonly Batch[]): Promise<number>
}

export const lossFor = ({ loss }: Recipe): NonNullable<Recipe['loss']> =>
  loss ?? ((tuned, p, batch, rng) => nextToken(tuned.run(p, inputsOf(batch), { training: true, rng }), batch))

export const transformFor = ({ transform }: Recipe, lr: Schedule, tuned: Tuned, setting: Setting): Transform<any> =>
  transform?.(lr, tuned, setting) ?? chain(clipByGlobalNorm(1), adamw({ lr, weightDecay: 0 }))

/** one adapter on all linear sites of the blocks */
export const linears = (
  adapter: Adapter<any>,
  name: string = `${adapter.name} ${JSON.stringify(adapter.options ?? {})}`,
): Recipe => ({
  name,
  attachments: () => [{ adapter, at: LINEARS }],
})

/** rows [n, T + 1] of tokens as a batch of next-token prediction */
export const batchOf = (rows: readonly (readonly number[])[]): Batch => {
  const T = rows[0]!.length - 1
  const take = (from: number): Int32Array => Int32Array.from(rows.flatMap((r) => r.slice(from, from + T)))
  return {
    ...{ shape: [rows.length, T], ids: take(0), targets: take(1) },
    ...{
      positions: Int32Array.from({ length: rows.length * T }, (_, i) => i % T),
      segments: new Int32Array(rows.length * T).fill(1),
    },
  }
}

/** rows that begin at these shares of a text's tokens */
export const cutAt = (ids: readonly number[], places: ArrayLike<number>, length: number = LENGTH): Batch =>
  batchOf(
    Array.from(places, (p) => {
      const from = Math.floor(p * (ids.length - length - 1))
      return ids.slice(from, from + length + 1)
    }),
  )

const PROMPTS = ['The king', 'It was', 'She said', 'In the', 'A man', 'They had', 'When the', 'How many'] as const

/** rows that a network writes itself, up to one for each of eight prompts and each seed, until there are `n` */
export const ownRows = async (
  network: Network<TransformerConfig>,
  tokenizer: Tokenizer,
  seeds: Iterable<number>,
  n: number = Number.POSITIVE_INFINITY,
): Promise<number[][]> => {
  const bare = attach(network, [], newRng(0))
  const rows: number[][] = []
  for (const seed of seeds) {
    const found = await complete(bare, PROMPTS, { tokenizer, temperature: 1, maxTokens: LENGTH + 16, seed })
    for (const { ids } of found) if (ids.length > LENGTH && rows.length < n) rows.push([...ids.slice(0, LENGTH + 1)])
    if (rows.length >= n) break
  }
  return rows
}

/** windows of a text's tokens: the last eighth to test on, the eighth before it to choose rates on */
export const textTask = (
  name: string,
  ids: readonly number[],
  { length = LENGTH, rows = ROWS }: { length?: number; rows?: number } = {},
): Task => {
  const cut = (part: number): number => Math.floor((ids.length * part) / 8)
  const windows = (from: number, to: number, n: number): Batch[] => {
    const step = Math.floor((to - from - length - 1) / (n * rows))
    const at = (i: number): readonly number[] => ids.slice(from + i * step, from + i * step + length + 1)
    return Array.from({ length: n }, (_, b) => batchOf(Array.from({ length: rows }, (_, r) => at(b * rows + r))))
  }
  const learned = ids.slice(0, cut(6))
  return {
    name,
    batch: (seed, step) => {
      const places = newRng(seed).fork(`${name}.${step}`).numbers(rows)
      return cutAt(learned, places, length)
    },
    validation: windows(cut(6), cut(7), 4),
    test: windows(cut(7), cut(8), 8),
  }
}

/** Mini with its task; `recall` and `remember` keep results between processes. */
export const laboratory = async ({
  recall = () => undefined,
  remember = () => {},
  onStep = () => {},
}: {
  recall?: (key: string) => Result | undefined
  remember?: (key: string, result: Result) => void
  onStep?: (what: string, step: number, steps: number, loss: number) => void
} = {}): Promise<Lab> => {
  const { network, tokenizer } = await loadMini()
  const voice = readFileSync(new URL('../examples/data/voice.txt', import.meta.url), 'utf8')
  const task = textTask('voice', tokenizer.encode(voice))
  const bare = attach(network, [], newRng(0))

  /** text that the network wrote itself before it was tuned: nothing else shows as plainly what it loses */
  let unrelated: readonly Batch[] | undefined
  const own = async (): Promise<readonly Batch[]> => {
    unrelated ??= [batchOf(await ownRows(network, tokenizer, [0, 1]))]
    return unrelated
  }
  const lossOf = async (tuned: Tuned, params: Params, batches: readonly Batch[]): Promise<number> =>
    (await meanLoss(tuned, params, batches))!
  let before: number | undefined

  const run: Lab['run'] = async (recipe, { seed, steps = STEPS, task: on = task, again = false, ...given }) => {
    const rate = given.rate ?? (await chosen(recipe, { steps, task: on }))
    const key = JSON.stringify([recipe.name, on.name, steps, rate, seed])
    const known = again ? undefined : recall(key)
    if (known) return known
    const base = (await recipe.network?.(network)) ?? network
    const setting: Setting = { network: base, sites: sitesOf(base), rng: newRng(seed), steps, task: on }
    const attachments = recipe.attachments?.(setting) ?? []
    const statistics = [...new Set(attachments.flatMap((a) => a.adapter.calibrates ?? []))]
    const seen = statistics.length
      ? await calibrate(
          base,
          Array.from({ length: 8 }, (_, i) => on.batch(seed + 1000, i)),
          { statistics },
        )
      : undefined
    const whole = recipe.train?.(setting)
    const peak = peakBytes()
    peak.reset()
    const held = peak.bytes - Object.values(base.weights).reduce((n, w) => n + bytesOf(w.parts), bytesOf(base.vectors))
    const tuned = attach(base, attachments, newRng(seed).fork('adapters'), {
      ...(whole?.length && { train: whole }),
      ...(seen && { seen }),
    })
    const live = revising(tuned, { steps, seed })
    const lr = cosine(rate, { steps, warmup: Math.min(5, Math.floor(steps / 4)) })
    const loss = lossFor(recipe)
    const curve: number[] = []
    const times: number[] = []
    let params: Params = tuned.params
    const training = train<Batch>({
      params: tuned.params,
      transform: transformFor(recipe, lr, tuned, setting),
      data: Array.from({ length: steps }, (_, i) => on.batch(seed, i)),
      loss: (p, b, { rng }) => loss(live.tuned, p, b, rng),
      weight: targetsIn,
      seed,
      ...(recipe.estimate && { estimate: recipe.estimate(tuned, setting) }),
      ...(live.active && { revise: live.revise }),
    })
    for await (const s of training) {
      curve.push(s.loss)
      times.push(s.milliseconds)
      params = s.params
      onStep(`${recipe.name} seed ${seed} rate ${rate}`, s.step, steps, s.loss)
    }
    const top = peak.bytes - held // whatever stands from earlier runs is not this one's
    const now = live.active ? tunedOf({ ...tuned, constants: { ...tuned.constants, ...live.buffers } }) : tuned
    const rows = await own()
    before ??= await lossOf(bare, {}, rows)
    const result: Result = {
      rate,
      loss: await lossOf(now, params, on.test),
      validation: await lossOf(now, params, on.validation),
      forgetting: (await lossOf(now, params, rows)) - before,
      curve,
      milliseconds: times.slice(2).sort((a, b) => a - b)[Math.floor((times.length - 2) / 2)] ?? times[0]!,
      peak: top,
      trainable: countParams(tuned.params),
      bytes: bytesOnDisk(now, params),
    }
    const kept = new Set(tensorsOf(base))
    const drop = [params, tuned.params, now.constants, tuned.constants].flatMap((p) => Object.values(p))
    for (const { tensors } of Object.values(seen ?? {})) drop.push(...Object.values(tensors))
    dispose([...new Set(drop)].filter((t) => !kept.has(t) && !t.isDisposed))
    for (const b of tuned.bound)
      if (b.base) dispose(Object.values(b.base.parts).filter((t) => !kept.has(t) && !t.isDisposed))
    if (!again) remember(key, result)
    return result
  }

  const chosen: Lab['rate'] = async (recipe, options = {}) => {
    const losses = new Map<number, number>()
    const look = async (rate: number): Promise<number> => {
      const { validation } = await run(recipe, { seed: 0, rate, ...options })
      losses.set(rate, Number.isFinite(validation) ? validation : Number.POSITIVE_INFINITY)
      return losses.get(rate)!
    }
    for (const rate of GRID) await look(rate)
    const best = (): number => [...losses].reduce((a, b) => (b[1] < a[1] ? b : a))[0]
    const beyond = { [GRID.at(-1)!]: BEYOND.up, [GRID[0]]: BEYOND.down }[best()] ?? []
    for (const rate of beyond) if ((await look(rate)) > losses.get(best())!) break
    return best()
  }

  return { network, tokenizer, task, run, rate: chosen, loss: lossOf }
}

const bytesOnDisk = (tuned: Tuned, params: Params): number => {
  try {
    return toPeft(tuned, params).tensors.reduce((n, t) => n + 4 * t.shape.reduce((a, b) => a * b, 1), 0)
  } catch {
    // what PEFT cannot describe is a checkpoint of what trained
    return bytesOf(params)
  }
}
