/**
 * The comparison of storage formats: what a model loses in each, and what it costs. One model, the same held-out text for
 * all; formats that look at data see other rows of the same kind. Three seeds draw both.
 */
import { readFileSync } from 'node:fs'
import type { CodecSettings } from '@weftjs/cli/codecs'
import { openFolder, openNetwork, openTokenizer } from '@weftjs/cli/models'
import { planOf } from '@weftjs/cli/pack'
import { attach, complete, type Divergence, divergenceFrom, meanLoss, type TransformerConfig } from '@weftjs/model'
import type { Batch, Network, Tokenizer } from '@weftjs/spec'
import { bytesOf, dispose, mul, peakBytes, rng, sub, sum, type Tensor, tidy } from '@weftjs/tensor'
import { tensorsOf } from '@weftjs/weight'
import { spread } from './journal.ts'
import { batchOf, cutAt, ownRows, ROWS } from './lab.ts'
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
  { codec: 'mixed:bits=4.5', says: 'The same against one of its own formats for all', beats: 'gguf:Q4_0' },
  {
    codec: 'mixed:bits=4.5,of=gptq',
    says: "Bits where they matter lose less than GPTQ's 4 everywhere",
    beats: 'gptq:bits=4,group=64,symmetric=false',
  },
  { codec: 'gptq:bits=4,group=64,symmetric=false' },
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
  { codec: 'mixed:bits=3.5', says: 'The same at 3 bits', beats: 'int3:group=64' },
  { codec: 'int3:group=64' },
  { codec: 'mixed:bits=3.5,of=gptq', says: 'The same at 3 bits', beats: 'gptq:bits=3,group=64,symmetric=false' },
  { codec: 'gptq:bits=3,group=64,symmetric=false' },
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

/** batches that calibration sees */
const SEEN = 8

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
  /** relative: ‖Q − W‖²/‖W‖² over them; null where scales have moved between layers, and a matrix is no longer the model's */
  readonly error: number | null
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
const textsOf = (
  network: Network<TransformerConfig>,
  tokenizer: Tokenizer,
  file: string | undefined,
): ((seed: number, n: number) => Promise<Batch>) => {
  if (file !== undefined) {
    const ids = tokenizer.encode(readFileSync(file, 'utf8'))
    return async (seed, n) => cutAt(ids, rng(seed).fork('text').numbers(n))
  }
  return async (seed, n) => batchOf(await ownRows(network, tokenizer, rounds(1000 * seed), n))
}
const rounds = function* (from: number): Generator<number> {
  for (let round = from; ; round++) yield round
}

const one = async (t: Tensor): Promise<number> => {
  const [v] = await t.data()
  t.dispose()
  return v!
}

export const quantLab = async (model: string, file: string | undefined): Promise<QuantLab> => {
  const folder = await openFolder(model)
  const network = await openNetwork(folder)
  const tokenizer = await openTokenizer(folder, network)
  const texts = textsOf(network, tokenizer, file)
  const kept = new Map<number, { test: Batch; seen: Batch[]; apart: Divergence }>()
  const dataOf = async (seed: number) => {
    const known = kept.get(seed)
    if (known) return known
    const test = await texts(seed, 2 * ROWS)
    const seen: Batch[] = []
    for (let i = 1; i <= SEEN; i++) seen.push(await texts(seed + 100 * i, ROWS))
    const made = { test, seen, apart: divergenceFrom(network, [test]) }
    kept.set(seed, made)
    return made
  }
  const blocks = Object.entries(network.weights).filter(([n]) => n.startsWith('blocks.'))
  const measure: QuantLab['measure'] = async (codec, seed) => {
    const { test, seen, apart } = await dataOf(seed)
    const before = new Set(tensorsOf(network))
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
    if (plan.name !== 'awq')
      for (const [name, w] of values) {
        const size = (t: () => Tensor): Promise<number> => one(tidy(() => sum(mul(t(), t()))))
        off += await size(() => sub(w.dense(), network.weights[name]!.dense()))
        all += await size(() => network.weights[name]!.dense())
      }
    const kl = await apart(packed)
    const tuned = attach(packed, [], rng(0))
    const loss = (await meanLoss(tuned, {}, [test]))!
    const count = 24
    await complete(tuned, ['The king'], { tokenizer, temperature: 0, maxTokens: 4 })
    const start = performance.now()
    const [text] = await complete(tuned, ['The king'], { tokenizer, temperature: 0, maxTokens: count })
    const milliseconds = (performance.now() - start) / Math.max(1, text!.ids.length)
    dispose(tensorsOf(packed).filter((t) => !before.has(t) && !t.isDisposed))
    return {
      ...{ bits: (8 * bytes) / numbers, bytes, error: all ? off / all : null, kl, perplexity: Math.exp(loss) },
      ...{ seconds, milliseconds, peak: over },
    }
  }
  return { measure, model, weights: blocks.reduce((n, [, w]) => n + w.shape[0] * w.shape[1], 0) }
}

export interface CompareOptions {
  /** of ENTRIES; all by default */
  readonly names: readonly string[]
  readonly onRow: (row: QuantRow, done: number, of: number) => void
  /** asked between two runs: whoever wants to stop gets the rows that are whole */
  readonly stopped?: () => boolean
}
const STOPPED = new Error('stopped')

/** every format with every seed, and each claim as the margin by which it loses less than the other */
export const compare = async (
  lab: QuantLab,
  seeds: readonly number[],
  { names, onRow, stopped = () => false }: CompareOptions,
): Promise<QuantRow[]> => {
  const known = new Map<string, Promise<Measured[]>>()
  const all = (codec: CodecSettings): Promise<Measured[]> => {
    const key = nameOf(codec)
    const run = async (): Promise<Measured[]> => {
      const found: Measured[] = []
      for (const seed of seeds) {
        if (stopped()) throw STOPPED
        found.push(await lab.measure(codec, seed))
      }
      return found
    }
    if (!known.has(key)) known.set(key, run())
    return known.get(key)!
  }
  const wanted = ENTRIES.filter((e) => !names.length || names.includes(nameOf(e.codec)))
  const rows: QuantRow[] = []
  for (const entry of wanted) {
    const row = await rowOf(entry, { all, model: lab.model, seeds: seeds.length })
    if (!row) break
    rows.push(row)
    onRow(row, rows.length, wanted.length)
  }
  return rows
}

/** undefined where the comparison was stopped */
const rowOf = async (
  { codec, says, beats }: Entry,
  { all, model, seeds }: { all: (codec: CodecSettings) => Promise<Measured[]>; model: string; seeds: number },
): Promise<QuantRow | undefined> => {
  const base = { method: nameOf(codec), model, seeds, claim: says ?? null }
  try {
    const runs = await all(codec)
    const others = beats ? await all(beats) : undefined
    const margins = others?.map((o, i) => o.kl - runs[i]!.kl)
    const pick = (of: (m: Measured) => number): Spread => spread(runs.map(of))
    const [first] = runs as [Measured, ...Measured[]]
    return {
      ...base,
      metric: beats ? `KL of ${nameOf(beats)} less ours` : 'KL to the full model, nats a token',
      ...(margins ? spread(margins) : pick((m) => m.kl)),
      holds: margins ? margins.every((m) => m > 0) : null,
      run: {
        bits: first.bits,
        bytes: first.bytes,
        error: first.error === null ? null : pick((m) => m.error!).mean,
        kl: pick((m) => m.kl),
        perplexity: pick((m) => m.perplexity),
        seconds: Math.min(...runs.map((m) => m.seconds)),
        milliseconds: Math.min(...runs.map((m) => m.milliseconds)),
        peak: Math.max(...runs.map((m) => m.peak)),
      },
    }
  } catch (error) {
    if (error === STOPPED) return undefined
    const none = { metric: null, mean: null, sd: null, holds: null, run: null }
    return { ...base, ...none, error: (error as Error).message.slice(0, 300) }
  }
}
