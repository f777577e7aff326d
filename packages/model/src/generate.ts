import type { Params, Rng, Tensor, Tokenizer } from '@weftjs/spec'
import { argMax, cast, concat, exp, log, max, neg, reshape, rng, slice, sub, sum, tensor, tidy } from '@weftjs/tensor'
import type { Tuned } from './attach.ts'
import { type KvFormat, kvCache } from './cache.ts'
import type { TransformerConfig } from './config.ts'
import { decoder, type StopScan, stopScan, type TextStream } from './decoder.ts'
import { checkCausal, lengthOf, type Prompts, promptIds } from './prompt.ts'
import { checkSampling, likeliest, logSumExp, type SamplingOptions, sample } from './sampling.ts'

export interface GenerateOptions extends SamplingOptions {
  /** values of the adapters' tensors; those they start with by default */
  readonly params?: Params
  /** names of the attachments that act, all by default: see `ForwardOptions` */
  readonly adapters?: readonly string[]
  /** the same for each prompt: `[['fr'], ['de'], []]` */
  readonly rows?: readonly (readonly string[])[]
  /** needed for prompts that are text, for text in the answer, and for `stop` */
  readonly tokenizer?: (Tokenizer & { readonly ends?: readonly number[] }) | undefined
  /** per prompt; less where the model's length ends before */
  readonly maxTokens?: number
  /** text that ends an answer and is cut from it; a special token's name works too */
  readonly stop?: string | readonly string[]
  /** token ids that end an answer; by default what tokenizer or config.json name as EOS */
  readonly ends?: readonly number[]
  /** of the random numbers; each prompt has its own stream, whatever the batch */
  readonly seed?: number
  /** how many of the likeliest tokens to report at each place */
  readonly logprobs?: number
  /** prompts that run together */
  readonly batch?: number
  /** how keys and values of earlier tokens are kept, in full by default: `kvStaircase` of @weftjs/quant keeps them in few bits */
  readonly cache?: KvFormat
  /** a prompt as long as the model takes: refuse it, or keep its end */
  readonly overflow?: 'error' | 'truncate'
  readonly signal?: AbortSignal | undefined
}

/** why an answer ended: an end token, a stop string, or the limit of length */
export type Finish = 'end' | 'stop' | 'length'

/** One token of one answer. The texts of a row, joined, are its answer. */
export interface Generated {
  /** which prompt */
  readonly row: number
  readonly id: number
  /** what became certain with this token: whole characters, nothing that may belong to a stop string */
  readonly text: string
  /** ln p of the token under the model itself, before penalty, temperature and cuts */
  readonly logprob: number
  /** the likeliest tokens at this place, where `logprobs` asks for them */
  readonly top?: readonly { readonly id: number; readonly logprob: number }[]
  /** on the last token of a row */
  readonly finish?: Finish
}

export interface Completion {
  readonly text: string
  /** with the token that ended it */
  readonly ids: readonly number[]
  readonly logprobs: readonly number[]
  readonly finish: Finish
}

interface Row {
  readonly row: number
  /** prompt and answer */
  readonly ids: number[]
  readonly limit: number
  readonly seen: Set<number>
  readonly rng: Rng
  readonly stream: TextStream | undefined
  readonly scan: StopScan
}

/**
 * Answers to prompts, token by token, as they are chosen; rows of a batch interleave. Greedy unless `temperature` says
 * otherwise; the same seed gives the same answer whatever else is in the batch. Between tokens the event loop runs, so
 * that a page can draw. Leaving the loop early, or `signal`, frees everything.
 * @throws Error for a model that is no decoder, a prompt that is empty, too long or of another vocabulary, an option out of range
 * @throws the signal's reason when it aborts
 */
export async function* generate(
  tuned: Tuned,
  prompts: Prompts,
  options: GenerateOptions = {},
): AsyncGenerator<Generated, void, undefined> {
  const { tokenizer, maxTokens = 128, stop = [], seed = 0, logprobs = 0, batch = 8, overflow = 'error' } = options
  const { config } = tuned.network
  checkCausal(config, 'generate')
  checkSampling(options)
  atLeast('maxTokens', maxTokens, 1)
  atLeast('logprobs', logprobs, 0)
  atLeast('batch', batch, 1)
  const stops = [stop].flat()
  if (stops.length && !tokenizer)
    throw new Error("stop needs the model's `tokenizer`; pass it, or `ends` with token ids")
  const random = rng(seed)
  const rows = promptIds(prompts, config, { tokenizer, maxTokens, overflow }).map(
    (ids, row): Row => ({
      row,
      ids: [...ids],
      limit: Math.min(ids.length + maxTokens, lengthOf(config)),
      seen: new Set(ids),
      rng: random.fork(`row.${row}`),
      stream: tokenizer && decoder(tokenizer),
      scan: stopScan(stops),
    }),
  )
  const { rows: chosen } = options
  if (chosen && chosen.length !== rows.length)
    throw new Error(
      `rows: there are ${rows.length} prompts, and adapters are named for ${chosen.length}; name them for each`,
    )
  const ends = new Map<number, Finish>([
    ...endsOf(config, options).map((id) => [id, 'end'] as const),
    ...stops.flatMap((s) => special(tokenizer!, s)).map((id) => [id, 'stop'] as const),
  ])
  for (let i = 0; i < rows.length; i += batch) yield* together(tuned, rows.slice(i, i + batch), ends, options)
}

/** the whole answers, in the order of the prompts */
export const complete = async (
  tuned: Tuned,
  prompts: Prompts,
  options: GenerateOptions = {},
): Promise<Completion[]> => {
  const rows: { text: string; ids: number[]; logprobs: number[]; finish: Finish }[] = []
  for await (const { row, id, text, logprob, finish } of generate(tuned, prompts, options)) {
    rows[row] ??= { text: '', ids: [], logprobs: [], finish: 'length' }
    const it = rows[row]
    it.text += text
    it.ids.push(id)
    it.logprobs.push(logprob)
    if (finish) it.finish = finish
  }
  return rows
}

/** one batch: the prompts in one pass, padded on the left, then a token of each row per pass; a row that ends leaves */
async function* together(
  tuned: Tuned,
  rows: readonly Row[],
  ends: ReadonlyMap<number, Finish>,
  options: GenerateOptions,
): AsyncGenerator<Generated, void, undefined> {
  const { temperature = 0, repetitionPenalty = 1, logprobs = 0, signal, params = tuned.params } = options
  const { adapters, rows: chosen } = options
  const reduced = temperature === 0 && repetitionPenalty === 1 && !logprobs
  const width = Math.max(...rows.map((r) => r.ids.length))
  const cache = kvCache(tuned.network.config, options.cache)
  const breathe = breather()
  let live = rows.map((r) => ({ ...r, pad: width - r.ids.length }))
  try {
    while (live.length) {
      signal?.throwIfAborted()
      const T = cache.length ? 1 : width
      const out = tidy(() => {
        const { hidden, head } = tuned.run(params, inputsFor(live, T, cache.length), {
          cache,
          ...(adapters && { adapters }),
          ...(chosen && { rows: live.map((r) => chosen[r.row]!) }),
        })
        const [B, L, D] = hidden.shape as [number, number, number]
        const logits = reshape(head(slice(hidden, [0, L - 1, 0], [B, 1, D])), [B, -1]) // [B, V]
        return reduced ? greedy(logits) : logits
      })
      let values: Float32Array
      try {
        values = (await out.data()) as Float32Array
      } finally {
        out.dispose()
      }
      signal?.throwIfAborted()
      const n = values.length / live.length
      const going: number[] = []
      for (const [b, r] of live.entries()) {
        const part = values.subarray(b * n, (b + 1) * n)
        const chosen = reduced ? { id: part[0]!, logprob: part[1]! } : choose(part, r, options)
        if (!Number.isFinite(chosen.logprob))
          throw new Error(
            `prompt ${r.row}, token ${r.ids.length}: the logits are not finite; the weights or the adapter have diverged`,
          )
        r.ids.push(chosen.id)
        r.seen.add(chosen.id)
        const event = { row: r.row, ...chosen, ...told(r, chosen.id, ends.get(chosen.id)) }
        if (!event.finish) going.push(b)
        yield event
      }
      if (going.length < live.length) {
        live = going.map((b) => live[b]!)
        if (live.length) cache.select(going)
      }
      await breathe()
    }
  } finally {
    cache.dispose()
  }
}

/** ids [B, T] of this pass, with positions [B, T] and a mask [B, K] where rows are padded */
const inputsFor = (live: readonly (Row & { pad: number })[], T: number, past: number): Record<string, Tensor> => {
  const B = live.length
  const padded = live.some((r) => r.pad)
  const grid = (n: number, f: (r: Row & { pad: number }, t: number) => number): Tensor =>
    tensor(
      Int32Array.from({ length: B * n }, (_, i) => f(live[Math.floor(i / n)]!, i % n)),
      [B, n],
      'int32',
    )
  return {
    ids: grid(T, (r, t) => r.ids[past + t - r.pad] ?? 0),
    ...(padded && {
      positions: grid(T, (r, t) => Math.max(past + t - r.pad, 0)),
      mask: grid(past + T, (r, t) => (t < r.pad ? 0 : 1)),
    }),
  }
}

/** logits [B, V] → [B, 2]: the likeliest id and its log-probability, so that nothing else leaves the device */
const greedy = (logits: Tensor): Tensor => {
  const top = max(logits, 1, true) // [B, 1]
  const logprob = neg(log(sum(exp(sub(logits, top)), 1, true))) // [B, 1]
  return concat([reshape(cast(argMax(logits, 1), 'float32'), [-1, 1]), logprob], 1)
}

const choose = (
  logits: Float32Array,
  { seen, rng }: Row,
  options: GenerateOptions,
): Pick<Generated, 'id' | 'logprob' | 'top'> => {
  const id = sample(logits, seen, rng, options)
  return {
    id,
    logprob: logits[id]! - logSumExp(logits),
    ...(options.logprobs && { top: likeliest(logits, options.logprobs) }),
  }
}

/** the text that a token makes certain, and whether the row ends with it */
const told = (
  { ids, limit, stream, scan }: Row,
  id: number,
  end: Finish | undefined,
): Pick<Generated, 'text' | 'finish'> => {
  const over = end ?? (ids.length >= limit ? 'length' : undefined)
  if (!stream) return { text: '', ...(over && { finish: over }) }
  let text = end ? '' : scan.push(stream.push(id))
  if (over && !scan.stopped) text += scan.push(stream.flush())
  if (over && !scan.stopped) text += scan.flush()
  const finish = scan.stopped ? 'stop' : over
  return { text, ...(finish && { finish }) }
}

const endsOf = ({ source }: TransformerConfig, { ends, tokenizer }: GenerateOptions): readonly number[] => {
  if (ends) return ends
  if (tokenizer?.ends?.length) return tokenizer.ends
  if (tokenizer?.eos !== undefined) return [tokenizer.eos]
  return [source['eos_token_id']].flat().filter((id) => typeof id === 'number')
}

/** the id of a stop string that is one special token: skipped in text, so looked for among ids */
const special = (tokenizer: Tokenizer, stop: string): number[] => {
  const ids = tokenizer.encode(stop, { special: false })
  return ids.length === 1 && tokenizer.decode(ids, { skipSpecial: true }) === '' ? ids : []
}

/** lets other work run when the last time is more than a few milliseconds ago */
const breather = (): (() => Promise<void>) => {
  let last = performance.now()
  return async () => {
    if (performance.now() - last < 8) return
    await new Promise((resolve) => setTimeout(resolve, 0))
    last = performance.now()
  }
}

const atLeast = (name: string, value: number, least: number): void => {
  if (!(Number.isInteger(value) && value >= least))
    throw new Error(`${name} must be an integer ≥ ${least}, found ${JSON.stringify(value) ?? String(value)}`)
}
