import type { Config } from '@weftjs/spec'
import { CheckpointError, encodeFloats } from '@weftjs/tensor/checkpoint'
import { type GgufSizes, sizesOf, textConfigOf } from './config-out.ts'
import { permutedHeads, rowInHf, toGgufModule } from './families.ts'
import type { GgufField } from './field.ts'
import { firstBad, movedRows } from './tensors-out.ts'
import type { GgufFile, GgufSource } from './writer.ts'

/** One module's update scale·B·A. */
export interface LoraModule {
  /** `model.layers.0.self_attn.q_proj` */
  readonly module: string
  /** r */
  readonly rank: number
  /** A [r, in] and B [out, r], row by row */
  readonly a: Float32Array | (() => Promise<Float32Array>)
  readonly b: Float32Array | (() => Promise<Float32Array>)
  readonly out: number
  readonly in: number
  readonly scale: number
}
export interface GgufAdapterOptions {
  /** config.json of the model that the adapter is for */
  readonly config: Config
  readonly modules: readonly LoraModule[]
  readonly type?: 'F32' | 'F16' | 'BF16'
  readonly name?: string
  /** the model's name, on the Hugging Face hub or elsewhere */
  readonly base?: string
  /** tokens that an activated LoRA acts from; llama.cpp's server looks for them */
  readonly invocation?: readonly number[]
}

/** the table of embeddings, whose A lies transposed in these files */
export const EMBED = 'token_embd'
const HEAD = 'output'
/** under the architecture; nobody but us has them in an adapter, and so its rows can be put in order without the model */
export const HEADS = 'attention.head_count'
export const KV_HEADS = 'attention.head_count_kv'
const HUB = 'https://huggingface.co/'

const text = (value: string): GgufField => ({ type: 'string', value })
const count = (value: number): GgufField => ({ type: 'u32', value })

/**
 * An adapter as a GGUF LoRA, which llama.cpp applies to a model of the same sizes. It knows one alpha and computes
 * alpha/r·B·A; where modules differ in scale·r, B takes the difference.
 * @throws CheckpointError that names the module which llama.cpp has none for
 */
export const ggufAdapter = ({
  config,
  modules,
  type = 'F32',
  name,
  base,
  invocation,
}: GgufAdapterOptions): GgufFile => {
  if (!modules.length) throw new Error('an adapter needs at least one module; this one has none')
  const sizes = sizesOf(config)
  const { family, heads, kvHeads } = sizes
  const tied = textConfigOf(config)['tie_word_embeddings'] ?? family.normOffset === 1
  // 0 would stand for a scale of 1
  const alpha = modules.map((m) => m.scale * m.rank).find((v) => v !== 0) ?? 1
  return {
    metadata: new Map<string, GgufField>([
      ['general.architecture', text(family.arch)],
      ['general.type', text('adapter')],
      ...(name === undefined ? [] : ([['general.name', text(name)]] as const)),
      ...(base === undefined ? [] : baseFields(base)),
      [`${family.arch}.${HEADS}`, count(heads)],
      [`${family.arch}.${KV_HEADS}`, count(kvHeads)],
      ['adapter.type', text('lora')],
      ['adapter.lora.alpha', { type: 'f32', value: alpha }],
      ...(invocation?.length
        ? ([['adapter.alora.invocation_tokens', { type: 'array', of: 'u32', value: invocation }]] as const)
        : []),
    ]),
    tensors: modules.flatMap((m) => pairOf(m, { sizes, type, alpha, tied: tied === true })),
  }
}

const HUB_NAME = /^[\w-][\w.-]*\/[\w.-]+$/
/** the model's name as llama.cpp's converter keeps it */
const baseFields = (base: string): (readonly [string, GgufField])[] => [
  ['general.base_model.count', count(1)],
  ...(HUB_NAME.test(base)
    ? ([
        ['general.base_model.0.name', text(base.split('/')[1]!)],
        ['general.base_model.0.organization', text(base.split('/')[0]!)],
        ['general.base_model.0.repo_url', text(HUB + base)],
      ] as const)
    : ([['general.base_model.0.name', text(base)]] as const)),
]
/** and back */
export const baseIn = (url: string | undefined, name: string | undefined): string | undefined => {
  const found = url?.startsWith(HUB) ? url.slice(HUB.length).replace(/\/$/, '') : undefined
  return found !== undefined && HUB_NAME.test(found) ? found : name
}

interface Written {
  readonly sizes: GgufSizes
  readonly type: 'F32' | 'F16' | 'BF16'
  readonly alpha: number
  readonly tied: boolean
}
const pairOf = (m: LoraModule, { sizes, type, alpha, tied }: Written): GgufSource[] => {
  const { family } = sizes
  const fail = (found: string): never => {
    throw new CheckpointError(found, { tensor: m.module })
  }
  const found =
    toGgufModule(family, m.module) ?? fail(`llama.cpp adapts no such module in ${family.arch}; leave it out`)
  if (tied && (found === EMBED || found === HEAD))
    fail(
      'the embedding is the head as well in this model, where llama.cpp adapts neither; merge the adapter into the model and export that',
    )
  const heads = permutedHeads(family, `${found}.weight`, sizes)
  const factor = (m.scale * m.rank) / alpha
  const own = async (v: LoraModule['a']): Promise<Float32Array> => (typeof v === 'function' ? v() : v)
  const values = async (v: LoraModule['a'], n: number): Promise<Float32Array> => {
    const made = await own(v)
    if (made.length !== n) fail(`has ${made.length} numbers where rank ${m.rank} needs ${n}`)
    const bad = firstBad(made, type === 'F16' ? 65_504 : Number.MAX_VALUE)
    return bad < 0
      ? made
      : fail(`number ${bad} of ${n} is ${made[bad]}, which ${type} cannot hold; look at its training`)
  }
  const a = async (): Promise<Uint8Array> => {
    const rows = await values(m.a, m.rank * m.in)
    return encodeFloats(type, found === EMBED ? transposed(rows, m.rank, m.in) : rows)
  }
  const b = async (): Promise<Uint8Array> => {
    const rows = await values(async () => (await own(m.b)).map((v) => v * factor), m.out * m.rank)
    const bytes = encodeFloats(type, rows)
    const height = heads === undefined ? undefined : m.out / heads
    return height ? movedRows(bytes, bytes.length / m.out, height, (r) => rowInHf(r, height)) : bytes
  }
  return [
    { name: `${found}.weight.lora_a`, type, shape: found === EMBED ? [m.in, m.rank] : [m.rank, m.in], data: a },
    { name: `${found}.weight.lora_b`, type, shape: [m.out, m.rank], data: b },
  ]
}

const transposed = (x: Float32Array, rows: number, columns: number): Float32Array =>
  x.map((_, i) => x[(i % rows) * columns + Math.floor(i / rows)]!)
