import {
  type Checkpoint,
  CheckpointError,
  decodeFloats,
  type Entry,
  type TensorSource,
} from '@weftjs/tensor/checkpoint'
import { type Architecture, type NameAt, namesOf } from './architectures/architecture.ts'
import type { TransformerConfig } from './config.ts'
import { placeOf } from './places.ts'

/** a name and its other spellings, the first first */
export const spellings = (hf: string, aliases: NonNullable<Architecture['aliases']> = []): string[] => {
  const all = new Set([hf])
  for (const [piece, instead] of aliases) for (const name of [...all]) all.add(name.replace(piece, instead))
  return [...all]
}

/** where the matrix of one expert lies in a tensor of all */
interface Slice extends Entry {
  readonly of: string
  readonly from: number
}

/**
 * A checkpoint as if each expert had tensors of its own: what a file keeps as [E, parts·out, in] is read slice by slice.
 * `fused`: the rows of the config's names that it keeps so.
 * @throws CheckpointError for a fused tensor of another shape
 */
export const apart = (
  checkpoint: Checkpoint,
  config: TransformerConfig,
  aliases: Architecture['aliases'],
): { checkpoint: Checkpoint; fused: ReadonlySet<number> } => {
  const slices = new Map<string, Slice>()
  const fused = new Set<number>()
  const taken = new Set<string>()
  for (const name of config.experts ? namesOf(config) : []) {
    if (!name.fused || spellings(name.hf, aliases).some((hf) => checkpoint.has(hf))) continue
    const of = spellings(name.fused.hf, aliases).find((hf) => checkpoint.has(hf))
    if (of === undefined) continue
    const [out, input] = placeOf(config, name.name).shape as [number, number]
    const { dtype, shape, bytes } = checkpoint.entry(of)
    const { part, parts } = name.fused
    const wanted = [config.experts!.count, parts * out, input]
    if (shape.join() !== wanted.join())
      throw new CheckpointError(
        `has shape [${shape}], and config.json makes it [${wanted}]; the two are not of one model`,
        { file: checkpoint.name, tensor: of },
      )
    const one = bytes / (wanted[0]! * parts)
    slices.set(name.hf, { of, dtype, shape: [out, input], bytes: one, from: one * (name.expert! * parts + part) })
    fused.add(name.row)
    taken.add(of)
  }
  if (!slices.size) return { checkpoint, fused }
  const readInto: Checkpoint['readInto'] = (name, target, from = 0) => {
    const slice = slices.get(name)
    if (!slice) return checkpoint.readInto(name, target, from)
    if (from + target.length > slice.bytes)
      throw new CheckpointError(`bytes ${from} to ${from + target.length} of ${slice.bytes} were asked for`, {
        file: checkpoint.name,
        tensor: name,
      })
    return checkpoint.readInto(slice.of, target, slice.from + from)
  }
  const read: Checkpoint['read'] = async (name) => {
    const slice = slices.get(name)
    if (!slice) return checkpoint.read(name)
    const data = new Uint8Array(slice.bytes)
    await readInto(name, data)
    return { dtype: slice.dtype, shape: slice.shape, data }
  }
  return {
    fused,
    checkpoint: {
      ...checkpoint,
      names: [...checkpoint.names.filter((n) => !taken.has(n)), ...slices.keys()],
      has: (name) => slices.has(name) || checkpoint.has(name),
      entry: (name) => slices.get(name) ?? checkpoint.entry(name),
      read,
      readInto,
      floats: async (name) => {
        if (!slices.has(name)) return checkpoint.floats(name)
        const { dtype, data } = await read(name)
        return decodeFloats(dtype, data, { file: checkpoint.name, tensor: name })
      },
    },
  }
}

/** Matrices of experts as the fused tensors [E, parts·out, in] of a file; apart again where some of one are missing. */
export const together = (
  found: readonly { readonly name: NameAt; readonly source: TensorSource }[],
  experts: number,
): TensorSource[] => {
  const groups = new Map<string, { name: NameAt; source: TensorSource }[]>()
  for (const one of found) groups.set(one.name.fused!.hf, [...(groups.get(one.name.fused!.hf) ?? []), one])
  return [...groups].flatMap(([hf, list]) => {
    const { parts } = list[0]!.name.fused!
    if (list.length !== experts * parts) return list.map((one) => one.source)
    const order = (n: NameAt): number => n.expert! * parts + n.fused!.part
    const sorted = list.toSorted((a, b) => order(a.name) - order(b.name)).map((one) => one.source)
    const [{ dtype, shape }] = sorted as [TensorSource]
    return [
      {
        name: hf,
        dtype,
        shape: [experts, parts * shape[0]!, shape[1]!],
        data: async function* () {
          for (const { data } of sorted) {
            const made = typeof data === 'function' ? await data() : data
            if (made instanceof Uint8Array) yield made
            else yield* made
          }
        },
      },
    ]
  })
}
