import type { Sink } from './sink.ts'
import { type Metadata, sizeOf, type TensorSource, writeSafetensors } from './write.ts'

export interface ShardOptions {
  readonly metadata?: Metadata
  /** of tensor data in one file; a larger tensor has a file of its own */
  readonly maxShardBytes?: number
  readonly stem?: string
}
export interface Shard {
  readonly file: string
  readonly tensors: readonly TensorSource[]
}

/**
 * Which tensor goes to which file, in the order given: `stem.safetensors` when all fit into one, else
 * `stem-00001-of-0000n.safetensors`.
 */
export const planShards = (
  tensors: readonly TensorSource[],
  { maxShardBytes = 5e9, stem = 'model' }: Pick<ShardOptions, 'maxShardBytes' | 'stem'> = {},
): Shard[] => {
  const groups: TensorSource[][] = [[]]
  let used = 0
  for (const tensor of tensors) {
    const bytes = sizeOf(tensor)
    if (used > 0 && used + bytes > maxShardBytes) {
      groups.push([])
      used = 0
    }
    groups.at(-1)!.push(tensor)
    used += bytes
  }
  const digits = (n: number): string => String(n).padStart(5, '0')
  const of = digits(groups.length)
  return groups.map((tensors, i) => ({
    file: groups.length === 1 ? `${stem}.safetensors` : `${stem}-${digits(i + 1)}-of-${of}.safetensors`,
    tensors,
  }))
}

/**
 * Writes one safetensors file, or shards and then `stem.safetensors.index.json`, each to a sink that `create` makes.
 * @returns the names written, in that order
 */
export const writeSharded = async (
  create: (file: string) => Sink | Promise<Sink>,
  tensors: readonly TensorSource[],
  { metadata = {}, maxShardBytes = 5e9, stem = 'model' }: ShardOptions = {},
): Promise<string[]> => {
  const shards = planShards(tensors, { maxShardBytes, stem })
  const index = `${stem}.safetensors.index.json`
  const files = shards.map(({ file }) => file)
  for (const { file, tensors } of shards) await writeSafetensors(await create(file), tensors, metadata)
  if (shards.length === 1) return files
  const sink = await create(index)
  try {
    await sink.write(new TextEncoder().encode(indexOf(shards)))
    await sink.close()
  } catch (error) {
    await sink.abort?.()
    throw error
  }
  return [...files, index]
}

const indexOf = (shards: readonly Shard[]): string => {
  const total = shards.flatMap(({ tensors }) => tensors).reduce((sum, tensor) => sum + sizeOf(tensor), 0)
  const lines = shards
    .flatMap(({ file, tensors }) => tensors.map(({ name }) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`))
    .sort()
  return `{\n  "metadata": {\n    "total_size": ${total}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`
}
