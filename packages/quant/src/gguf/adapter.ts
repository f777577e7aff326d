import type { Config } from '@weftjs/spec'
import {
  type ByteSource,
  type Checkpoint,
  CheckpointError,
  encodeFloats,
  type Folder,
  fromBytes,
  openCheckpoint,
} from '@weftjs/tensor/checkpoint'
import { familyIn } from './config-in.ts'
import { type GgufSizes, sizesOf } from './config-out.ts'
import { permutedHeads, rowInGguf, rowInHf, toGgufModule, toHfModule } from './families.ts'
import { fieldsOf, type GgufField } from './field.ts'
import { type GgufGiven, type HeldGguf, holdGguf } from './held.ts'
import type { GgufTensor } from './reader.ts'
import { movedRows } from './tensors-out.ts'
import { permutedRows, type VirtualTensor, virtualSafetensors } from './virtual.ts'
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
}

const CONFIG = 'adapter_config.json'
const STEM = 'adapter_model'
const PREFIX = 'base_model.model.'
const EMBED = 'token_embd'

/**
 * An adapter as a GGUF LoRA, which llama.cpp applies to a model of the same sizes. It knows one alpha and computes
 * alpha/r·B·A; where modules differ in scale·r, B takes the difference.
 * @throws CheckpointError that names the module which llama.cpp has none for
 */
export const ggufAdapter = ({ config, modules, type = 'F32', name }: GgufAdapterOptions): GgufFile => {
  if (!modules.length) throw new Error('an adapter needs at least one module; this one has none')
  const sizes = sizesOf(config)
  const { family } = sizes
  const alpha = modules[0]!.scale * modules[0]!.rank
  const tensors = modules.flatMap((m): GgufSource[] => {
    const found = toGgufModule(family, m.module)
    if (!found)
      throw new CheckpointError(`llama.cpp adapts no such module in ${family.arch}; leave it out`, { tensor: m.module })
    const heads = permutedHeads(family, `${found}.weight`, sizes)
    const factor = (m.scale * m.rank) / alpha
    const values = async (v: LoraModule['a'], n: number): Promise<Float32Array> => {
      const made = typeof v === 'function' ? await v() : v
      if (made.length === n) return made
      throw new CheckpointError(`has ${made.length} numbers where rank ${m.rank} needs ${n}`, { tensor: m.module })
    }
    const a = async (): Promise<Uint8Array> => {
      const rows = await values(m.a, m.rank * m.in)
      return encodeFloats(type, found === EMBED ? transposed(rows, m.rank, m.in) : rows)
    }
    const b = async (): Promise<Uint8Array> => {
      const rows = (await values(m.b, m.out * m.rank)).map((v) => v * factor)
      const bytes = encodeFloats(type, rows)
      const height = heads === undefined ? undefined : m.out / heads
      return height ? movedRows(bytes, bytes.length / m.out, height, (r) => rowInHf(r, height)) : bytes
    }
    return [
      { name: `${found}.weight.lora_a`, type, shape: found === EMBED ? [m.in, m.rank] : [m.rank, m.in], data: a },
      { name: `${found}.weight.lora_b`, type, shape: [m.out, m.rank], data: b },
    ]
  })
  const text = (value: string): GgufField => ({ type: 'string', value })
  return {
    metadata: new Map<string, GgufField>([
      ['general.architecture', text(family.arch)],
      ['general.type', text('adapter')],
      ...(name === undefined ? [] : ([['general.name', text(name)]] as const)),
      ['adapter.type', text('lora')],
      ['adapter.lora.alpha', { type: 'f32', value: alpha }],
    ]),
    tensors,
  }
}

const transposed = (x: Float32Array, rows: number, columns: number): Float32Array =>
  x.map((_, i) => x[(i % rows) * columns + Math.floor(i / rows)]!)

/** the one value of a module by patterns as PEFT has them: a regular expression for the end of its path */
const patterned = (pattern: unknown, module: string, fallback: number): number => {
  for (const [key, value] of Object.entries((pattern ?? {}) as Record<string, number>)) {
    const found = new RegExp(`^(?:.*\\.)?(?:${key})$`)
    if (found.test(module)) return value
  }
  return fallback
}

/**
 * The modules of a PEFT folder whose method is LoRA, rank and scale of each as its config says.
 * @throws CheckpointError for another method, and for what a GGUF LoRA has no place for: biases, whole modules, DoRA
 */
export const peftModules = async (folder: Folder): Promise<{ modules: LoraModule[]; checkpoint: Checkpoint }> => {
  const file = `${folder.name}/${CONFIG}`
  const c = JSON.parse(await folder.text(CONFIG)) as Config
  const refuse = (found: string): never => {
    throw new CheckpointError(`${found}; merge the adapter into the model and export that`, { file })
  }
  if (c['peft_type'] !== 'LORA') refuse(`is ${JSON.stringify(c['peft_type'])}, and llama.cpp knows LoRA alone`)
  for (const key of ['use_dora', 'use_qalora', 'alora_invocation_tokens', 'lora_bias', 'layer_replication'])
    if (c[key]) refuse(`${key}: llama.cpp does not compute it`)
  const checkpoint = await openCheckpoint(folder, { stem: STEM })
  try {
    const modules = checkpoint.names.flatMap((name): LoraModule[] => {
      // the base's own table, which PEFT saves beside an adapter of it
      if (name.endsWith('.base_layer.weight')) return []
      const found = /^base_model\.model\.(.+)\.lora_(embedding_)?([AB])(\.weight)?$/.exec(name)
      if (!found) return refuse(`the tensor ${name} is no part of a LoRA`)
      if (found[3] === 'B') return []
      const [, module, embedding = '', , suffix = ''] = found as unknown as [string, string, string?, string?, string?]
      const other = `${PREFIX}${module}.lora_${embedding}B${suffix}`
      const [a, b] = [checkpoint.entry(name), checkpoint.entry(other)]
      const [rank, input] = a.shape as [number, number]
      if (a.shape.length !== 2 || b.shape.length !== 2 || b.shape[1] !== rank)
        refuse(`${module}: A [${a.shape}] and B [${b.shape}] are no pair of matrices`)
      const r = patterned(c['rank_pattern'], module, Number(c['r']))
      const alpha = patterned(c['alpha_pattern'], module, Number(c['lora_alpha']))
      return [
        {
          module,
          rank,
          a: () => checkpoint.floats(name),
          b: () => checkpoint.floats(other),
          in: input,
          out: b.shape[0]!,
          scale: alpha / (c['use_rslora'] ? Math.sqrt(r) : r),
        },
      ]
    })
    return { modules, checkpoint }
  } catch (error) {
    await checkpoint.close()
    throw error
  }
}

export interface GgufAdapterFolderOptions {
  /** config.json of the model that it is for: Llama's rows of q and k lie by its heads */
  readonly config?: Config
}

/**
 * A GGUF LoRA as a PEFT folder: adapter_config.json and an adapter_model.safetensors, made when read.
 * @throws CheckpointError for a file that is no LoRA, and without `config` where the order of rows depends on it
 */
export const ggufAdapterFolder = async (given: GgufGiven, { config }: GgufAdapterFolderOptions = {}): Promise<Folder> =>
  adapterFolder(await holdGguf(given), config)

interface Pair {
  a?: GgufTensor
  b?: GgufTensor
}

const adapterFolder = (file: HeldGguf, config: Config | undefined): Folder => {
  const { name } = file
  const fail = (found: string, tensor?: string): never => {
    throw new CheckpointError(found, { file: name, tensor })
  }
  const fields = fieldsOf(file.metadata, fail)
  if (fields.text('general.type') !== 'adapter' || fields.text('adapter.type') !== 'lora')
    fail('is no LoRA (general.type, adapter.type); a model is opened by ggufFolder')
  const family = familyIn(fields)
  const alpha = fields.number('adapter.lora.alpha') ?? 0
  const pairs = new Map<string, Pair>()
  for (const [tensor, found] of file.tensors) {
    const part = /^(.+)\.weight\.lora_([ab])$/.exec(tensor)
    if (!part) return fail('is no part of a LoRA; adapters that carry other tensors are not read', tensor)
    if (!['F32', 'F16', 'BF16'].includes(found.type) || found.shape.length !== 2)
      fail(`is ${found.type} [${found.shape}], where a matrix of F32, F16 or BF16 is expected`, tensor)
    const pair = pairs.get(part[1]!) ?? {}
    pair[part[2] as 'a' | 'b'] = found
    pairs.set(part[1]!, pair)
  }
  if (!pairs.size) fail('has no tensors')
  let sizes: GgufSizes | undefined
  const virtual: VirtualTensor[] = []
  const ranks = new Map<string, number>()
  for (const [gguf, { a, b }] of pairs) {
    const module = toHfModule(family, gguf) ?? fail(`${family.arch} has no module ${gguf}`)
    const embed = gguf === EMBED
    if (!a || !b) return fail(`${gguf}: has lora_${a ? 'a' : 'b'} alone`)
    const rank = a.shape[embed ? 1 : 0]!
    if (b.shape[1] !== rank || rank < 1) fail(`${gguf}: A [${a.shape}] and B [${b.shape}] are no pair`)
    ranks.set(module, rank)
    let heads: number | undefined
    if (permutedHeads(family, `${gguf}.weight`, { heads: 1, kvHeads: 1 }) !== undefined) {
      if (!config) return fail(`${gguf}: the order of its rows depends on the model; pass its config.json as 'config'`)
      sizes ??= sizesOf(config)
      heads = permutedHeads(family, `${gguf}.weight`, sizes)
    }
    const at = (part: string): string => `${PREFIX}${module}.lora_${embed ? `embedding_${part}` : `${part}.weight`}`
    const raw = (t: GgufTensor) => (from: number, to: number) => file.read(t.name, from, to)
    const height = heads === undefined ? undefined : b.shape[0]! / heads
    if (height !== undefined && (height % 2 || !Number.isInteger(height)))
      fail(`${gguf}: ${b.shape[0]} rows are not ${heads} heads; the config is of another model`)
    const readB = height
      ? permutedRows(raw(b), (b.end - b.start) / b.shape[0]!, height, (r) => rowInGguf(r, height))
      : raw(b)
    virtual.push(
      {
        name: at('A'),
        dtype: a.type as 'F32',
        shape: embed ? [rank, a.shape[0]!] : a.shape,
        read: embed ? turned(raw(a), a) : raw(a),
      },
      { name: at('B'), dtype: b.type as 'F32', shape: b.shape, read: readB },
    )
  }
  const files: Readonly<Record<string, () => ByteSource | Promise<ByteSource>>> = {
    [CONFIG]: () =>
      fromBytes(
        new TextEncoder().encode(`${JSON.stringify(peftConfig(ranks, alpha, config), null, 2)}\n`),
        `${name}/${CONFIG}`,
      ),
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

/** a matrix [rows, r] as [r, rows], read whole each time: it is one of few */
const turned =
  (read: (from: number, to: number) => Promise<Uint8Array>, { shape, start, end }: GgufTensor) =>
  async (from: number, to: number): Promise<Uint8Array> => {
    const bytes = await read(0, end - start)
    const [rows, r] = shape as [number, number]
    const size = bytes.length / (rows * r)
    const out = new Uint8Array(bytes.length)
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < r; j++)
        out.set(bytes.subarray((i * r + j) * size, (i * r + j + 1) * size), (j * rows + i) * size)
    return out.subarray(from, to)
  }

/** alpha 0 stands for a scale of 1 in llama.cpp */
const peftConfig = (ranks: ReadonlyMap<string, number>, alpha: number, config: Config | undefined): Config => {
  const counts = new Map<number, number>()
  for (const r of ranks.values()) counts.set(r, (counts.get(r) ?? 0) + 1)
  const r = [...counts].sort((a, b) => b[1] - a[1])[0]![0]
  const others = [...ranks].filter(([, rank]) => rank !== r)
  const model = config?.['_name_or_path']
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
  }
}
