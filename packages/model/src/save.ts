import type { Codec, Config, Network, Tensor } from '@weftjs/spec'
import { reshape, tidy, transpose } from '@weftjs/tensor'
import {
  type Dtype,
  encodeFloats,
  type ShardOptions,
  type Sink,
  type TensorSource,
  writeSharded,
} from '@weftjs/tensor/checkpoint'
import { type Name, type NameAt, namesOf } from './architectures/architecture.ts'
import type { TransformerConfig } from './config.ts'
import { together } from './fused.ts'
import { storedShape } from './load.ts'
import { placeOf } from './places.ts'

export type SaveDtype = 'F32' | 'F16' | 'BF16'

/** A matrix as those who write it see it: a `Weight`, or one that is still to come, whose numbers are made when asked for. */
export interface WeightToWrite {
  readonly shape: readonly [out: number, input: number]
  readonly format?: string
  readonly codec?: Codec<any>
  readonly parts: Readonly<Record<string, Pick<Tensor, 'dtype' | 'shape' | 'size' | 'data'>>>
}

/** How a codec's matrices are written; the inverse of `LoadOptions.packed`. */
export interface PackedWriter {
  /** the tensors that hold one weight, `hf` being `model.layers.0.self_attn.q_proj.weight`; undefined: write it dense */
  tensors(hf: string, weight: WeightToWrite): readonly TensorSource[] | undefined
  /** added to config.json: `{ quantization_config: ... }` */
  readonly config: Config
}

export interface SaveOptions extends Pick<ShardOptions, 'maxShardBytes'> {
  /** of every tensor; by default each keeps the dtype it was read in, float32 where it was not */
  readonly dtype?: SaveDtype
  /** without it packed weights are written dense */
  readonly packed?: PackedWriter
}

/** What lies at one name of a checkpoint: of `shape` here, its bytes made when they are written. */
export interface Content {
  readonly shape: readonly number[]
  readonly weight?: WeightToWrite
  /** as the file keeps it, in a floating dtype; asked for when its turn comes */
  bytes(name: Name, dtype: Dtype): Promise<Uint8Array> | AsyncIterable<Uint8Array>
}

/** The files of a Hugging Face folder for a config and what lies at each of its names. */
export const layOut = (
  c: TransformerConfig,
  at: (name: NameAt) => Content | undefined,
  { dtype: asked, packed }: Pick<SaveOptions, 'dtype' | 'packed'> = {},
): { config: Config; tensors: readonly TensorSource[] } => {
  const tensors: TensorSource[] = []
  const fused: Parameters<typeof together>[0][number][] = []
  for (const name of namesOf(c)) {
    const content = at(name)
    if (!content) {
      if (name.optional) continue
      throw new Error(`${name.name}: the network has no such tensor, and its checkpoint needs ${name.hf}`)
    }
    const { weight, shape, bytes } = content
    const special = weight && packed?.tensors(name.hf, weight)
    if (special) {
      tensors.push(...special)
      continue
    }
    const wanted = placeOf(c, name.name).shape
    if (shape.join() !== wanted.join())
      throw new Error(
        `${name.name}: has shape [${shape}], and the config makes it [${wanted}]; change the config with the tensors`,
      )
    const dtype: Dtype = asked ?? (name.dtype === 'F16' || name.dtype === 'BF16' ? name.dtype : 'F32')
    const source = { name: name.hf, dtype, shape: storedShape(name, shape, c), data: () => bytes(name, dtype) }
    if (name.fused?.stored) fused.push({ name, source })
    else tensors.push(source)
  }
  tensors.push(...together(fused, c.experts?.count ?? 0))
  return { config: configOf(c, { ...(asked && { dtype: asked }), ...(packed && { packed }) }), tensors }
}

/** a tensor of ours as a file keeps it; what `tensor` makes goes, and what is the network's stays */
export const bytesOfTensor = async (
  c: TransformerConfig,
  name: Name,
  dtype: Dtype,
  tensor: () => Tensor,
): Promise<Uint8Array> => {
  const made = tidy(() => {
    const t = tensor()
    // a view of its own
    return name.layout === 'transposed' && t.rank === 2
      ? transpose(t)
      : reshape(t, storedShape(name, t.shape, c) as number[])
  })
  const values = await made.data<'float32'>()
  made.dispose()
  return encodeFloats(dtype, values, { tensor: name.hf })
}

/** A network as the files of a Hugging Face folder: what config.json says, and tensors whose bytes are made when asked. */
export const checkpointOf = (
  network: Network<TransformerConfig>,
  options: Pick<SaveOptions, 'dtype' | 'packed'> = {},
): { config: Config; tensors: readonly TensorSource[] } => {
  const { config: c, weights, vectors } = network
  const left = new Set([...Object.keys(weights), ...Object.keys(vectors)])
  const made = layOut(
    c,
    ({ name }) => {
      const weight = weights[name]
      const vector = vectors[name]
      left.delete(name)
      if (!weight && !vector) return undefined
      return {
        shape: weight?.shape ?? vector!.shape,
        ...(weight && { weight }),
        bytes: (at, dtype) => bytesOfTensor(c, at, dtype, () => weight?.dense() ?? vector!),
      }
    },
    options,
  )
  if (c.tied) left.delete('head')
  if (left.size)
    throw new Error(
      `${[...left].slice(0, 3).join(', ')}: a ${c.architecture} checkpoint has no place for ${left.size === 1 ? 'it' : 'them'}; leave out what is not the model's own`,
    )
  return made
}

const WORDS: Readonly<Record<SaveDtype, string>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }

/** config.json as it came, but for what this network has changed */
const configOf = (c: TransformerConfig, { dtype, packed }: Pick<SaveOptions, 'dtype' | 'packed'>): Config => {
  const { quantization_config: _, ...source } = c.source
  const tokens = c.output === 'causal' || c.output === 'masked'
  const spoken = 'torch_dtype' in source && !('dtype' in source) ? 'torch_dtype' : 'dtype'
  return {
    ...source,
    ...(tokens && !(c.tied && source['tie_word_embeddings'] === undefined) && { tie_word_embeddings: c.tied }),
    ...(dtype && { [spoken]: WORDS[dtype] }),
    ...packed?.config,
  }
}

/**
 * Writes config.json and model.safetensors (shards and an index above `maxShardBytes`, 5 GB by default) in Hugging
 * Face's names and layouts, each to a sink that `create` makes. A tied head is left out. No more than one tensor is held
 * beside the network. In Node, `save` of @weftjs/model/node writes a folder in one step.
 * @returns the names written
 * @throws Error that names a tensor which the checkpoint has no place for, or lacks
 */
export const saveNetwork = async (
  network: Network<TransformerConfig>,
  create: (file: string) => Sink | Promise<Sink>,
  { maxShardBytes, ...options }: SaveOptions = {},
): Promise<string[]> =>
  writeFiles(checkpointOf(network, options), create, { ...(maxShardBytes !== undefined && { maxShardBytes }) })

/** the tensors, and config.json when all of them are written */
export const writeFiles = async (
  { config, tensors }: ReturnType<typeof layOut>,
  create: (file: string) => Sink | Promise<Sink>,
  options: Pick<ShardOptions, 'maxShardBytes'>,
): Promise<string[]> => {
  const files = await writeSharded(create, tensors, { metadata: { format: 'pt' }, ...options })
  const sink = await create('config.json')
  try {
    await sink.write(textOf(config))
    await sink.close()
  } catch (error) {
    await sink.abort?.()
    throw error
  }
  return [...files, 'config.json']
}

export const textOf = (config: Config): Uint8Array => new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`)
