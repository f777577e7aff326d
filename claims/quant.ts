/**
 * The comparison of storage formats: what a model loses in each, and what it costs. One model, the same held-out text for
 * all; formats that look at data see other rows of the same kind. Three seeds draw both.
 */
import { readFileSync } from 'node:fs'
import type { CodecSettings } from '@weftjs/cli/codecs'
import { openFolder, openNetwork, openTokenizer } from '@weftjs/cli/models'
import { planOf } from '@weftjs/cli/pack'
import { attach, complete, inputsOf, type TransformerConfig } from '@weftjs/model'
import type { Batch, Network, Tokenizer } from '@weftjs/spec'
import {
  bytesOf,
  dispose,
  exp,
  logSoftmax,
  mul,
  peakBytes,
  reshape,
  rng,
  sub,
  sum,
  type Tensor,
  tidy,
} from '@weftjs/tensor'
import { batchOf } from './lab.ts'
import type { QuantRow, Spread } from './table.ts'

/** A format in the comparison, and the one that its paper says it is better than at about the same bits. */
export interface Entry {
  readonly codec: CodecSettings
  readonly says?: string
  readonly beats?: CodecSettings
}

/** by falling bits; groups of 32, which divide the sides of small models, unless the format has blocks of its own */
export const ENTRIES: readonly Entry[] = [
  { codec: 'bf16' },
  { codec: 'f16' },
  { codec: 'int8' },
  { codec: 'int8:per=tensor' },
  { codec: 'llm-int8', says: 'Columns of large inputs in 16 bits lose less than 8 bits for all', beats: 'int8' },
  { codec: 'fp8' },
  { codec: 'gguf:Q8_0' },
  { codec: 'gguf:Q5_1' },
  { codec: 'gguf:Q5_0' },
  { codec: 'mixed:bits=5', says: 'Bits where they matter lose less than as many everywhere', beats: 'int4:group=32' },
  { codec: 'int4:group=32' },
  { codec: 'gguf:Q4_1' },
  { codec: 'gguf:Q4_0' },
  { codec: 'gguf:IQ4_NL', says: 'Levels that are not even lose less than even ones', beats: 'gguf:Q4_0' },
  { codec: 'nf4', says: 'Normal quantiles lose less than 4-bit floats', beats: 'fp4' },
  { codec: 'nf4-dq', says: 'Scales in 8 bits lose less than blocks of twice the size', beats: 'nf4:block=128' },
  { codec: 'nf4:block=128' },
  { codec: 'fp4' },
  {
    codec: 'hqq:bits=4,group=32',
    says: 'Zero points by half-quadratic splitting lose less than rounding',
    beats: 'int4:group=32',
  },
  {
    codec: 'gptq:bits=4,group=32,symmetric=false',
    says: 'Errors that later inputs make good lose less than rounding',
    beats: 'int4:group=32',
  },
  { codec: 'awq:group=32', says: 'Scales by what the layer reads lose less than rounding', beats: 'int4:group=32' },
  { codec: 'int3:group=32' },
  { codec: 'hqq:bits=3,group=32', says: 'The same at 3 bits', beats: 'int3:group=32' },
  { codec: 'gptq:bits=3,group=32,symmetric=false', says: 'The same at 3 bits', beats: 'int3:group=32' },
  {
    codec: { name: 'outliers', of: { name: 'int3', group: 32 }, share: 0.01 },
    says: 'A hundredth of the weights kept apart takes off what 3 bits lose',
    beats: 'int3:group=32',
  },
  { codec: 'int2:group=32' },
  { codec: 'hqq:bits=2,group=32', says: 'The same at 2 bits', beats: 'int2:group=32' },
  { codec: 'gptq:bits=2,group=32,symmetric=false', says: 'The same at 2 bits', beats: 'int2:group=32' },
  {
    codec: 'aqlm:codebooks=2,bits=8,group=8',
    says: 'Vectors that add up lose less than 2 bits a number',
    beats: 'int2:group=32',
  },
  { codec: 'aqlm:codebooks=1,bits=8,group=8' },
  { codec: 'ternary' },
  { codec: 'binary' },
]

export const nameOf = (codec: CodecSettings): string => {
  if (typeof codec === 'string') return codec
  const { name, of, ...rest } = codec as { name: string; of?: CodecSettings }
  const more = Object.entries(rest).map(([k, v]) => `${k}=${v}`)
  return `${name}(${[...(of ? [nameOf(of)] : []), ...more].join(', ')})`
}

/** rows of a batch, their tokens, and batches that calibration sees */
const [ROWS, LENGTH, SEEN] = [8, 64, 8] as const

export interface QuantLab {
  /** of one format with one seed */
  measure(codec: CodecSettings, seed: number): Promise<Measured>
  readonly model: string
  /** numbers in the matrices of the blocks */
  readonly weights: number
}
export interface Measured {
  readonly bits: number
  /** of the packed matrices */
  readonly bytes: number
  /** relative: ‖Q − W‖²/‖W‖² over them */
  readonly error: number
  /** to the full model, nats a token */
  readonly kl: number
  readonly perplexity: number
  readonly seconds: number
  /** of a token that is generated */
  readonly milliseconds: number
  /** most bytes of tensors while it was packed, over those of the dense model */
  readonly peak: number
}

/** text of the model's kind: a file's, or what the model writes itself, which is what it knows best */
const textsOf = async (
  network: Network<TransformerConfig>,
  tokenizer: Tokenizer,
  file: string | undefined,
): Promise<(seed: number, n: number) => Promise<Batch>> => {
  const cut = (ids: readonly number[], n: number, random: ReturnType<typeof rng>): Batch => {
    const places = random.numbers(n)
    return batchOf(
      Array.from(places, (p) => {
        const from = Math.floor(p * (ids.length - LENGTH - 1))
        return ids.slice(from, from + LENGTH + 1)
      }),
    )
  }
  if (file !== undefined) {
    const ids = tokenizer.encode(readFileSync(file, 'utf8'))
    return async (seed, n) => cut(ids, n, rng(seed).fork('text'))
  }
  const bare = attach(network, [], rng(0))
  const prompts = ['The king', 'It was', 'She said', 'In the', 'A man', 'They had', 'When the', 'How many']
  return async (seed, n) => {
    const found: number[][] = []
    for (let round = 0; found.length < n; round++)
      for (const { ids } of await complete(bare, prompts, {
        ...{ tokenizer, temperature: 1, maxTokens: LENGTH + 16, seed: 1000 * seed + round },
      }))
        if (ids.length > LENGTH && found.length < n) found.push([...ids.slice(0, LENGTH + 1)])
    return batchOf(found)
  }
}

/** log-probabilities of what comes next [rows·T, V], on the machine's memory */
const scoresOf = (network: Network<TransformerConfig>, batch: Batch): Tensor => {
  const bare = attach(network, [], rng(0))
  return tidy(() => {
    const { hidden, head } = bare.run({}, inputsOf(batch))
    const logits = head(hidden)
    return logSoftmax(reshape(logits, [-1, logits.shape.at(-1)!]))
  })
}
const one = async (t: Tensor): Promise<number> => {
  const [v] = await t.data()
  t.dispose()
  return v!
}
const partsOf = ({ weights }: Network<any>): Tensor[] => Object.values(weights).flatMap((w) => Object.values(w.parts))

export const quantLab = async (model: string, file: string | undefined): Promise<QuantLab> => {
  const folder = await openFolder(model)
  const network = await openNetwork(folder)
  const tokenizer = await openTokenizer(folder, network)
  const texts = await textsOf(network, tokenizer, file)
  const kept = new Map<number, { test: Batch; seen: Batch[]; scores: Tensor; loss: number }>()
  const dataOf = async (seed: number) => {
    const known = kept.get(seed)
    if (known) return known
    const test = await texts(seed, 2 * ROWS)
    const seen: Batch[] = []
    for (let i = 1; i <= SEEN; i++) seen.push(await texts(seed + 100 * i, ROWS))
    const scores = scoresOf(network, test)
    const made = { test, seen, scores, loss: await lossOf(scores, test) }
    kept.set(seed, made)
    return made
  }
  const lossOf = async (scores: Tensor, { targets }: Batch): Promise<number> => {
    const values = await scores.data()
    const V = scores.shape[1]!
    return -targets.reduce((s, t, i) => s + values[i * V + t]!, 0) / targets.length
  }
  const blocks = Object.entries(network.weights).filter(([n]) => n.startsWith('blocks.'))
  const measure: QuantLab['measure'] = async (codec, seed) => {
    const { test, seen, scores } = await dataOf(seed)
    const before = new Set([...partsOf(network), ...Object.values(network.vectors)])
    const peak = peakBytes()
    peak.reset()
    const stands = peak.bytes
    const began = performance.now()
    const plan = planOf(codec, 'codec')
    const packed = await plan.run(network, { consume: false, batches: async () => seen })
    const seconds = (performance.now() - began) / 1000
    const over = peak.bytes - stands
    const values = Object.entries(packed.weights).filter(([, w]) => w.codec)
    const numbers = values.reduce((n, [, w]) => n + w.shape[0] * w.shape[1], 0)
    const bytes = values.reduce((n, [, w]) => n + bytesOf(w.parts), 0)
    let [off, all] = [0, 0]
    // where scales have moved between layers, a matrix is no longer that of the model
    if (plan.name !== 'awq')
      for (const [name, w] of values) {
        const size = (t: () => Tensor): Promise<number> => one(tidy(() => sum(mul(t(), t()))))
        off += await size(() => sub(w.dense(), network.weights[name]!.dense()))
        all += await size(() => network.weights[name]!.dense())
      }
    const ours = scoresOf(packed, test)
    const kl = (await one(tidy(() => sum(mul(exp(scores), sub(scores, ours)))))) / scores.shape[0]!
    const loss = await lossOf(ours, test)
    ours.dispose()
    const tuned = attach(packed, [], rng(0))
    const count = 24
    await complete(tuned, ['The king'], { tokenizer, temperature: 0, maxTokens: 4 })
    const start = performance.now()
    const [text] = await complete(tuned, ['The king'], { tokenizer, temperature: 0, maxTokens: count })
    const milliseconds = (performance.now() - start) / Math.max(1, text!.ids.length)
    dispose([...partsOf(packed), ...Object.values(packed.vectors)].filter((t) => !before.has(t) && !t.isDisposed))
    return {
      ...{ bits: (8 * bytes) / numbers, bytes, error: all ? off / all : Number.NaN, kl, perplexity: Math.exp(loss) },
      ...{ seconds, milliseconds, peak: over },
    }
  }
  return { measure, model, weights: blocks.reduce((n, [, w]) => n + w.shape[0] * w.shape[1], 0) }
}

const spread = (all: readonly number[]): Spread => {
  const mean = all.reduce((a, b) => a + b, 0) / all.length
  const sd = Math.sqrt(all.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, all.length - 1))
  return { mean, sd }
}

/** every format with every seed, and each claim as the margin by which it loses less than the other */
export const compare = async (
  lab: QuantLab,
  seeds: readonly number[],
  { names, onRow }: { names: readonly string[]; onRow: (row: QuantRow, done: number, of: number) => void },
): Promise<QuantRow[]> => {
  const known = new Map<string, Promise<Measured[]>>()
  const all = (codec: CodecSettings): Promise<Measured[]> => {
    const key = nameOf(codec)
    const run = async (): Promise<Measured[]> => {
      const found: Measured[] = []
      for (const seed of seeds) found.push(await lab.measure(codec, seed))
      return found
    }
    if (!known.has(key)) known.set(key, run())
    return known.get(key)!
  }
  const wanted = ENTRIES.filter((e) => !names.length || names.includes(nameOf(e.codec)))
  const rows: QuantRow[] = []
  for (const { codec, says, beats } of wanted) {
    const base = { method: nameOf(codec), model: lab.model, seeds: seeds.length, claim: says ?? null }
    let row: QuantRow
    try {
      const runs = await all(codec)
      const others = beats ? await all(beats) : undefined
      const margins = others?.map((o, i) => o.kl - runs[i]!.kl)
      const pick = (of: (m: Measured) => number): Spread => spread(runs.map(of))
      const [first] = runs as [Measured, ...Measured[]]
      row = {
        ...base,
        metric: beats ? `KL of ${nameOf(beats)} less ours` : 'KL to the full model, nats a token',
        ...(margins ? spread(margins) : pick((m) => m.kl)),
        holds: margins ? margins.every((m) => m > 0) : null,
        run: {
          bits: first.bits,
          bytes: first.bytes,
          error: Number.isNaN(first.error) ? null : pick((m) => m.error).mean,
          kl: pick((m) => m.kl),
          perplexity: pick((m) => m.perplexity),
          seconds: Math.min(...runs.map((m) => m.seconds)),
          milliseconds: Math.min(...runs.map((m) => m.milliseconds)),
          peak: Math.max(...runs.map((m) => m.peak)),
        },
      }
    } catch (error) {
      row = {
        ...base,
        metric: null,
        mean: null,
        sd: null,
        holds: null,
        run: null,
        error: (error as Error).message.slice(0, 300),
      }
    }
    rows.push(row)
    onRow(row, rows.length, wanted.length)
  }
  return rows
}
