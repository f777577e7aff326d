import { CheckpointError, type TensorSource } from '@weftjs/tensor/checkpoint'
import type { GgufSizes } from './config-out.ts'
import { expertIn, expertsName } from './families.ts'
import { regrouped } from './tensors-out.ts'
import type { GgmlType } from './types.ts'

/** The matrices of all experts, which are one tensor [E, out, in] in these files. */
export interface ExpertsGroup {
  readonly name: string
  readonly shape: readonly number[]
  /** of each expert, or of all */
  readonly sources: readonly TensorSource[]
  readonly packed: GgmlType | undefined
}

const BITS: Readonly<Record<string, number>> = { F64: 64, F32: 32, F16: 16, BF16: 16 }

/** of a tensor [E, parts·out, in] one part of each expert */
const partOf = (source: TensorSource, p: number, parts: number, shape: readonly number[]): TensorSource => {
  if (parts === 1) return source
  const bytes = (shape[1]! * shape[2]! * (BITS[source.dtype] ?? 0)) / 8
  return {
    ...{ name: source.name, dtype: source.dtype, shape },
    data: async function* () {
      let n = 0
      for await (const piece of regrouped(source.data, bytes, bytes * shape[0]! * parts))
        for (let at = 0; at < piece.length; at += bytes) if (n++ % parts === p) yield piece.subarray(at, at + bytes)
    },
  }
}

/**
 * Groups by the first of their tensors, of which a file has one for each expert, or one for all; nothing stands for the
 * tensors whose group is another's.
 * @throws CheckpointError for an expert that is missing or in another format than the first
 */
export const expertsTogether = (
  tensors: readonly TensorSource[],
  { family, experts }: GgufSizes,
  packedOf: (hf: string) => GgmlType | undefined,
): ReadonlyMap<TensorSource, readonly ExpertsGroup[]> => {
  const groups = new Map<TensorSource, ExpertsGroup[]>()
  if (!experts) return groups
  const single = new Map<string, { first: TensorSource; sources: TensorSource[]; types: (GgmlType | undefined)[] }>()
  const fail = (tensor: string, found: string): never => {
    throw new CheckpointError(found, { tensor })
  }
  for (const source of tensors) {
    const stem = source.name.replace(/\.q$/, '')
    const packed = stem === source.name ? undefined : packedOf(stem)
    const found = expertIn(family, packed ? stem : source.name)
    if (!found) continue
    const { layer, expert, parts } = found
    if (expert === undefined) {
      const [count, rows, input] = source.shape as [number, number, number]
      const out = rows / parts.length
      if (source.shape.length !== 3 || count !== experts.count || !Number.isInteger(out))
        fail(source.name, `is [${source.shape}], and config.json has ${experts.count} experts`)
      const shape = [count, out, input]
      const made = parts.map((part, p): ExpertsGroup => {
        const sources = [partOf(source, p, parts.length, shape)]
        return { name: expertsName(layer, part), shape, sources, packed: undefined }
      })
      groups.set(source, made)
      continue
    }
    if (expert >= experts.count)
      fail(source.name, `is of expert ${expert}, and config.json has ${experts.count} experts`)
    const key = expertsName(layer, parts[0]!)
    if (!single.has(key)) single.set(key, { first: source, sources: [], types: [] })
    const own = single.get(key)!
    own.sources[expert] = source
    own.types[expert] = packed
    groups.set(source, [])
  }
  const { hidden, width } = experts
  for (const [name, { first, sources, types }] of single) {
    for (let e = 0; e < experts.count; e++) {
      if (!sources[e])
        fail(first.name, `has no expert ${e} beside it, of ${experts.count}; the checkpoint is not whole`)
      if (types[e] !== types[0] || (!types[0] && sources[e]!.shape.join() !== sources[0]!.shape.join()))
        fail(sources[e]!.name, 'is of another format or shape than the first expert; quantize all alike')
    }
    const packedShape = name.includes('ffn_down') ? [width, hidden] : [hidden, width]
    const shape = types[0] ? packedShape : sources[0]!.shape
    groups.set(first, [{ name, shape: [experts.count, ...shape], sources, packed: types[0] }])
  }
  return groups
}
