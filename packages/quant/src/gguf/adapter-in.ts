import type { Config } from '@weftjs/spec'
import {
  type ByteSource,
  CheckpointError,
  type Dtype,
  encodeFloats,
  type Folder,
  fromBytes,
} from '@weftjs/tensor/checkpoint'
import { baseIn, EMBED, HEADS, KV_HEADS } from './adapter.ts'
import { blocks } from './blocks/index.ts'
import { sizesOf } from './config-out.ts'
import { type GgufFamily, ggufFamilies, permutedHeads, rowInGguf, toHfModule } from './families.ts'
import { type Fields, fieldsOf } from './field.ts'
import { type GgufGiven, type HeldGguf, holdGguf } from './held.ts'
import { CONFIG, PREFIX, STEM } from './peft-modules.ts'
import type { GgufTensor } from './reader.ts'
import { permutedRows, type VirtualTensor, virtualSafetensors } from './virtual.ts'

export interface GgufAdapterFolderOptions {
  /** config.json of the model that it is for: Llama's rows of q and k lie by its heads, which files of ours say themselves */
  readonly config?: Config
}

/**
 * A GGUF LoRA as a PEFT folder: adapter_config.json and an adapter_model.safetensors, made when read.
 * @throws CheckpointError for a file that is no LoRA, without `config` where the order of rows depends on it, and for a
 * `config` of another model
 */
export const ggufAdapterFolder = async (given: GgufGiven, { config }: GgufAdapterFolderOptions = {}): Promise<Folder> =>
  adapterFolder(await holdGguf(given), config)

interface Pair {
  a?: GgufTensor
  b?: GgufTensor
}
type Fail = (found: string, tensor?: string) => never
type Read = (from: number, to: number) => Promise<Uint8Array>

const FLOATS = ['F32', 'F16', 'BF16']

const pairsIn = (file: HeldGguf, fail: Fail): ReadonlyMap<string, Required<Pair>> => {
  const pairs = new Map<string, Pair>()
  for (const [tensor, found] of file.tensors) {
    const part = /^(.+)\.weight\.lora_([ab])$/.exec(tensor)
    if (!part) return fail('is no part of a LoRA; adapters that carry other tensors are not read', tensor)
    if (!blocks.some(({ type }) => type === found.type) || found.shape.length !== 2)
      fail(`is ${found.type} [${found.shape}], where a matrix of floats or of blocks is expected`, tensor)
    const pair = pairs.get(part[1]!) ?? {}
    pair[part[2] as 'a' | 'b'] = found
    pairs.set(part[1]!, pair)
  }
  if (!pairs.size) fail('has no tensors')
  for (const [gguf, { a, b }] of pairs) {
    if (!a || !b) return fail(`${gguf}: has lora_${a ? 'a' : 'b'} alone`)
    const rank = rankOf(gguf, a)
    if (b.shape[1] !== rank || rank < 1) fail(`${gguf}: A [${a.shape}] and B [${b.shape}] are no pair`)
  }
  return pairs as ReadonlyMap<string, Required<Pair>>
}
const rankOf = (gguf: string, a: GgufTensor): number => a.shape[gguf === EMBED ? 1 : 0]!

/** an adapter does not say whether its model has experts, so that all families of its architecture may be meant */
const familiesOf = (fields: Fields, config: Config | undefined): readonly GgufFamily[] => {
  const arch = fields.text('general.architecture')
  const known = ggufFamilies.filter((f) => f.arch === arch)
  if (!known.length)
    fields.fail(
      'general.architecture',
      `${JSON.stringify(arch)} is not supported; ${[...new Set(ggufFamilies.map((f) => f.arch))].join(', ')} are`,
    )
  const type = config?.['model_type']
  if (config === undefined) return known
  const own = known.filter(({ model, also }) => model === type || also.includes(String(type)))
  if (!own.length)
    fields.fail('general.architecture', `the adapter is for ${arch}, and the model is ${JSON.stringify(type)}`)
  return own
}

/** the heads that rows of q and k lie by */
const headsOf = (fields: Fields, config: Config | undefined): { heads: number; kvHeads: number } | undefined => {
  const arch = fields.text('general.architecture')
  const said = (key: string): number | undefined => fields.number(`${arch}.${key}`)
  const heads = said(HEADS)
  const own = heads === undefined ? undefined : { heads, kvHeads: said(KV_HEADS) ?? heads }
  const model = config && sizesOf(config)
  if (own && model && (own.heads !== model.heads || own.kvHeads !== model.kvHeads))
    fields.fail(
      `${arch}.${HEADS}`,
      `the adapter is for ${own.heads} heads and ${own.kvHeads} of keys, and the model has ${model.heads} and ${model.kvHeads}; name the model that it was trained on`,
    )
  return model ?? own
}

const adapterFolder = (file: HeldGguf, config: Config | undefined): Folder => {
  const { name } = file
  const fail: Fail = (found, tensor) => {
    throw new CheckpointError(found, { file: name, tensor })
  }
  const fields = fieldsOf(file.metadata, fail)
  if (fields.text('general.type') !== 'adapter' || fields.text('adapter.type') !== 'lora')
    fail('is no LoRA (general.type, adapter.type); a model is opened by ggufFolder')
  const families = familiesOf(fields, config)
  const alpha = fields.number('adapter.lora.alpha') ?? 0
  if (!Number.isFinite(alpha)) fields.fail('adapter.lora.alpha', `is ${alpha}`)
  const pairs = pairsIn(file, fail)
  const ranks = new Map<string, number>()
  const virtual: VirtualTensor[] = []
  for (const [gguf, { a, b }] of pairs) {
    const module = families.map((f) => toHfModule(f, gguf)).find((m) => m !== undefined)
    if (module === undefined) return fail(`${families[0]!.arch} has no module ${gguf}`)
    ranks.set(module, rankOf(gguf, a))
    const embed = gguf === EMBED
    const at = (part: string): string => `${PREFIX}${module}.lora_${embed ? `embedding_${part}` : `${part}.weight`}`
    const height = heightOf(gguf, b, families[0]!, () => headsOf(fields, config), fail)
    const [rawA, rawB] = [rawOf(file, a), rawOf(file, b)]
    const rows = height
      ? permutedRows(rawB.read, rawB.size / b.shape[0]!, height, (r) => rowInGguf(r, height))
      : rawB.read
    virtual.push(
      {
        ...{ name: at('A'), dtype: rawA.dtype, shape: embed ? [...a.shape].reverse() : a.shape },
        read: embed ? turned(rawA, a.shape) : rawA.read,
      },
      { name: at('B'), dtype: rawB.dtype, shape: b.shape, read: rows },
    )
  }
  const about = peftConfig({ ranks, alpha, config, fields })
  const files: Readonly<Record<string, () => ByteSource | Promise<ByteSource>>> = {
    [CONFIG]: () => fromBytes(new TextEncoder().encode(`${JSON.stringify(about, null, 2)}\n`), `${name}/${CONFIG}`),
    [`${STEM}.safetensors`]: async () => virtualSafetensors(name, virtual, await file.hold()),
  }
  const open = async (asked: string): Promise<ByteSource> =>
    (Object.hasOwn(files, asked) ? files[asked]! : fail(`has no ${asked}; it has ${Object.keys(files).join(', ')}`))()
  return {
    name,
    open,
    has: async (asked) => Object.hasOwn(files, asked),
    text: async (asked) => {
      const found = await open(asked)
      return new TextDecoder().decode(await found.read(0, found.size))
    },
    list: async () => Object.keys(files),
  }
}

/** rows of a head, where those of this module lie in another order */
const heightOf = (
  gguf: string,
  { shape }: GgufTensor,
  family: GgufFamily,
  headsOf: () => { heads: number; kvHeads: number } | undefined,
  fail: Fail,
): number | undefined => {
  if (permutedHeads(family, `${gguf}.weight`, { heads: 1, kvHeads: 1 }) === undefined) return undefined
  const found = headsOf()
  if (!found) return fail(`${gguf}: the order of its rows depends on the model; pass its config.json as 'config'`)
  const heads = permutedHeads(family, `${gguf}.weight`, found)!
  const height = shape[0]! / heads
  if (!(height >= 2) || height % 2 || !Number.isInteger(height))
    fail(`${gguf}: ${shape[0]} rows are not ${heads} heads; the config is of another model`)
  return height
}

interface Raw {
  readonly dtype: Dtype
  readonly size: number
  readonly read: Read
}
/** a tensor's bytes; blocks are decoded whole each time, being one of few */
const rawOf = (file: HeldGguf, { name, type, shape, start, end }: GgufTensor): Raw => {
  if (FLOATS.includes(type))
    return { dtype: type as Dtype, size: end - start, read: (from, to) => file.read(name, from, to) }
  const block = blocks.find((b) => b.type === type)!
  const n = shape[0]! * shape[1]!
  const read: Read = async (from, to) => {
    const bytes = await file.read(name)
    const values = new Float32Array(n) // [rows · columns]
    for (let i = 0; i * block.size < n; i++) block.dequantize(bytes, i * block.bytes, values, i * block.size)
    return encodeFloats('F32', values).subarray(from, to)
  }
  return { dtype: 'F32', size: 4 * n, read }
}

/** a matrix [rows, r] as [r, rows], read whole each time: it is one of few */
const turned =
  ({ read, size: all }: Raw, shape: readonly number[]): Read =>
  async (from, to) => {
    const bytes = await read(0, all)
    const [rows, r] = shape as [number, number]
    const size = bytes.length / (rows * r)
    const out = new Uint8Array(bytes.length)
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < r; j++)
        out.set(bytes.subarray((i * r + j) * size, (i * r + j + 1) * size), (j * rows + i) * size)
    return out.subarray(from, to)
  }

interface About {
  readonly ranks: ReadonlyMap<string, number>
  readonly alpha: number
  readonly config: Config | undefined
  readonly fields: Fields
}
/** alpha 0 stands for a scale of 1 in llama.cpp */
const peftConfig = ({ ranks, alpha, config, fields }: About): Config => {
  const counts = new Map<number, number>()
  for (const r of ranks.values()) counts.set(r, (counts.get(r) ?? 0) + 1)
  const r = [...counts].sort((a, b) => b[1] - a[1])[0]![0]
  const others = [...ranks].filter(([, rank]) => rank !== r)
  const named = baseIn(fields.text('general.base_model.0.repo_url'), fields.text('general.base_model.0.name'))
  const model = named ?? config?.['_name_or_path']
  const invocation = fields.numbers('adapter.alora.invocation_tokens')
  return {
    base_model_name_or_path: typeof model === 'string' ? model : null,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: alpha === 0 ? r : alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: 'LORA',
    r,
    rank_pattern: Object.fromEntries(others),
    alpha_pattern: alpha === 0 ? Object.fromEntries(others) : {},
    target_modules: [...ranks.keys()],
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: false,
    ...(invocation?.length && { alora_invocation_tokens: invocation }),
  }
}
