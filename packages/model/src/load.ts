import type { Config, Network, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { dispose, keep, tidy, transpose } from '@weftjs/tensor'
import {
  bitsOf,
  type Checkpoint,
  CheckpointError,
  type Dtype,
  type Folder,
  isFloating,
  openCheckpoint,
} from '@weftjs/tensor/checkpoint'
import { readTensor } from '@weftjs/tensor/read-tensor'
import { checkRoom } from '@weftjs/tensor/room'
import { dense, tensorsOf } from '@weftjs/weight'
import {
  type Architecture,
  architectureOf,
  architectures as builtIn,
  type Name,
  namesOf,
} from './architectures/index.ts'
import type { TransformerConfig } from './config.ts'
import { apart, spellings } from './fused.ts'
import { placeOf } from './places.ts'

/** A matrix in a storage format of its own: found by its name in the file, undefined where it is plain. */
export type WeightReader = (
  checkpoint: Checkpoint,
  /** `model.layers.0.self_attn.q_proj.weight` */
  hf: string,
  /** [out, in] as the config says */
  shape: readonly [number, number],
  config: Config,
  /** its name here, and its layout in the file where that is not [out, in] */
  name: Name,
) => Promise<Weight | undefined>

export interface LoadOptions {
  /** instead of the built-in families, or with them: `[...architectures, mine]` */
  readonly architectures?: readonly Architecture[]
  readonly onProgress?: (done: { tensors: number; of: number; bytes: number }) => void
  /** is told the tensors of the checkpoint that the model has no place for; without it they are passed over */
  readonly onIgnored?: (names: readonly string[]) => void
  /** reads matrices that a codec has packed, or keeps them packed; without it a quantized checkpoint is refused */
  readonly packed?: WeightReader
  readonly signal?: AbortSignal
}

/** tensors that are read at a time */
const READERS = 4

/** an entry of the checkpoint that has a place here */
export interface Found {
  readonly name: Name & { readonly row: number }
  readonly hf: string
  readonly shape: readonly number[]
}

/**
 * A Hugging Face folder (config.json, safetensors whole or sharded) as a network; floats of any width become float32.
 * All names and shapes are checked against the config before the first tensor is read, and no more than a few tensors
 * are held beside the network.
 * @throws Error that names the field of config.json, CheckpointError that names the tensor: missing, of another shape
 */
export const loadNetwork = async (
  folder: Folder,
  { architectures, onProgress, onIgnored, packed, signal }: LoadOptions = {},
): Promise<Network<TransformerConfig>> => {
  const { architecture, config, checkpoint, fused } = await openModelIn(folder, architectures, packed !== undefined)
  const weights: Record<string, Weight> = {}
  const vectors: Record<string, Tensor> = {}
  const made = new Map<string, Tensor>()
  try {
    const { plain, special } = await inventory(checkpoint, architecture, config, packed)
    for (const { name, weight } of special) weights[name.name] = weight
    checkRoom(plain.map(({ name, shape }) => ({ name: name.name, elements: shape.reduce((p, n) => p * n, 1) })))
    const used = new Set(plain.map((f) => f.hf))
    let bytes = 0
    for (const { weight } of special) bytes += Object.values(weight.parts).reduce((n, t) => n + t.size * 4, 0)
    let tensors = special.length
    const load = async ({ name, hf, shape }: Found): Promise<void> => {
      signal?.throwIfAborted()
      const read = await readFloats(checkpoint, hf, name, shape)
      made.set(name.name, read)
      bytes += read.size * 4
      onProgress?.({ tensors: ++tensors, of: plain.length + special.length, bytes })
    }
    await eachOf(plain, READERS, load)
    for (const { name } of plain) {
      const read = made.get(name.name)!
      if (placeOf(config, name.name).axes) weights[name.name] = dense(read as Tensor2D)
      else vectors[name.name] = read
    }
    const there = [...special, ...plain].filter(({ hf }) => checkpoint.has(hf))
    const ignored = checkpoint.names.filter((n) => !used.has(n) && !special.some((s) => s.owns(n)))
    if (ignored.length) onIgnored?.(ignored)
    return { config: asStored({ config, checkpoint, fused }, there), weights, vectors }
  } catch (error) {
    dispose([...new Set([...tensorsOf({ weights }), ...made.values()])])
    throw error
  } finally {
    await checkpoint.close()
  }
}

/** A model's files before any tensor is read. */
export interface ModelFiles {
  readonly architecture: Architecture
  readonly config: TransformerConfig
  /** as if each expert had tensors of its own; `fused` are the rows of the config's names that have not */
  readonly checkpoint: Checkpoint
  readonly fused: ReadonlySet<number>
}

/** @throws Error that names the field of config.json, for a quantized checkpoint too unless those are read */
export const openModelIn = async (
  folder: Folder,
  architectures: readonly Architecture[] = builtIn,
  quantized = false,
): Promise<ModelFiles> => {
  const source = await readJson(folder, 'config.json')
  const architecture = architectureOf(source, architectures)
  const config = architecture.config(source)
  if (config.source['quantization_config'] && !quantized)
    throw new Error(
      `config.json: quantization_config: the checkpoint is quantized (${JSON.stringify((config.source['quantization_config'] as Config)?.['quant_method'])}); load one in float32, float16 or bfloat16`,
    )
  return { architecture, config, ...apart(await openCheckpoint(folder), config, architecture.aliases) }
}

/** the config with what the file says of each name: the widest dtype of all layers, and whether experts are fused */
export const asStored = (
  { config, checkpoint, fused }: Omit<ModelFiles, 'architecture'>,
  there: readonly { readonly name: { readonly row: number }; readonly hf: string }[],
): TransformerConfig => {
  const dtypes = new Map<number, Dtype>()
  for (const { name, hf } of there) {
    const { dtype } = checkpoint.entry(hf)
    const before = dtypes.get(name.row)
    if (isFloating(dtype) && (!before || bitsOf(dtype) > bitsOf(before))) dtypes.set(name.row, dtype)
  }
  const names = config.names.map((n, row) => ({
    ...n,
    ...(dtypes.has(row) && { dtype: dtypes.get(row)! }),
    ...(n.beside && fused.size && { hf: n.beside }),
    ...(n.fused && { fused: { ...n.fused, stored: fused.has(row) } }),
  }))
  return { ...config, names }
}

/** what `packed` has read */
interface Special {
  readonly name: Name & { readonly row: number }
  readonly hf: string
  readonly weight: Weight
  readonly owns: (file: string) => boolean
}

/** every tensor that the config asks for, found and of the right shape; stops at the first that is not */
export const inventory = async (
  checkpoint: Checkpoint,
  { aliases = [] }: Pick<Architecture, 'aliases'>,
  config: TransformerConfig,
  packed?: WeightReader,
): Promise<{
  plain: Found[]
  special: Special[]
}> => {
  const plain: Found[] = []
  const special: Special[] = []
  for (const name of namesOf(config)) {
    const spelled = spellings(name.hf, aliases)
    const { shape, axes } = placeOf(config, name.name)
    if (packed && axes) {
      let weight: Weight | undefined
      for (const hf of spelled) weight ??= await packed(checkpoint, hf, shape as [number, number], config.source, name)
      if (weight) {
        const stems = spelled.map((hf) => hf.replace(/weight$/, ''))
        special.push({
          name,
          hf: spelled.find((n) => checkpoint.has(n)) ?? name.hf,
          weight,
          owns: (file) => stems.some((s) => file.startsWith(s)),
        })
        continue
      }
    }
    const hf = spelled.find((n) => checkpoint.has(n))
    if (hf === undefined) {
      if (name.optional) continue
      throw absent(checkpoint, name, config)
    }
    const stored = checkpoint.entry(hf)
    const wanted = storedShape(name, shape, config)
    if (stored.shape.join() !== wanted.join())
      throw new CheckpointError(
        `has shape [${stored.shape}], and config.json makes it [${wanted}]; the two are not of one model`,
        { file: checkpoint.name, tensor: hf },
      )
    if (!isFloating(stored.dtype))
      throw new CheckpointError(`has dtype ${stored.dtype}, not a floating one; load an unquantized checkpoint`, {
        file: checkpoint.name,
        tensor: hf,
      })
    plain.push({ name, hf, shape })
  }
  return { plain, special }
}

const absent = (checkpoint: Checkpoint, { hf, name }: Name, c: TransformerConfig): CheckpointError => {
  const layers = new Set(checkpoint.names.map((n) => /\.(\d+)\./.exec(n)?.[1]).filter((n) => n !== undefined))
  const deep = Number(/^blocks\.(\d+)\./.exec(name)?.[1] ?? 0)
  const why =
    deep > 0 && deep >= layers.size
      ? `config.json says ${c.layers} layers, the checkpoint has ${layers.size}`
      : `${name} needs it; it has ${checkpoint.names.length} tensors, such as ${checkpoint.names.slice(0, 3).join(', ')}`
  return new CheckpointError(
    `not in this checkpoint: ${why}; download it again, or check that config.json is its own`,
    {
      file: checkpoint.name,
      tensor: hf,
    },
  )
}

/** the shape in the file of a tensor that is `shape` here */
export const storedShape = (
  { layout }: Name,
  shape: readonly number[],
  { image }: Pick<TransformerConfig, 'image'>,
): readonly number[] => {
  if (layout === 'transposed') return [...shape].reverse()
  if (layout === 'patches') return [shape[0]!, image!.channels, image!.patch, image!.patch]
  if (layout === 'batched') return [...[1, 1, 1].slice(shape.length), ...shape]
  return shape
}

export const readFloats = async (
  checkpoint: Checkpoint,
  hf: string,
  { layout }: Name,
  shape: readonly number[],
): Promise<Tensor> => {
  if (layout !== 'transposed' || shape.length !== 2) return readTensor(checkpoint, hf, shape)
  const stored = await readTensor(checkpoint, hf, [...shape].reverse())
  try {
    return tidy(() => keep(transpose(stored)))
  } finally {
    stored.dispose()
  }
}

/** f of every item, `width` at a time; after a failure nothing new begins, and what has begun is waited for */
const eachOf = async <T>(items: readonly T[], width: number, f: (item: T) => Promise<void>): Promise<void> => {
  let next = 0
  let failure: { error: unknown } | undefined
  const run = async (): Promise<void> => {
    while (next < items.length && !failure)
      await f(items[next++]!).catch((error: unknown) => {
        failure ??= { error }
      })
  }
  await Promise.all(Array.from({ length: width }, run))
  if (failure) throw failure.error
}

/** @throws CheckpointError when the file is missing or no JSON object */
export const readJson = async (folder: Folder, file: string): Promise<Config> => {
  const text = await folder.text(file)
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Config
  } catch (error) {
    throw new CheckpointError(`not valid JSON (${(error as Error).message}); download it again`, {
      file: `${folder.name}/${file}`,
    })
  }
  throw new CheckpointError('not a JSON object; download it again', { file: `${folder.name}/${file}` })
}
