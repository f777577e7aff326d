import type { Tensor2D } from '@weftjs/spec'
import { dispose } from '@weftjs/tensor'
import {
  type Checkpoint,
  type Dtype,
  decodeFloats,
  encodeFloats,
  type Folder,
  type Sink,
} from '@weftjs/tensor/checkpoint'
import { type Name, type NameAt, namesOf } from './architectures/architecture.ts'
import type { TransformerConfig } from './config.ts'
import { asStored, inventory, type LoadOptions, openModelIn, readFloats } from './load.ts'
import { placeOf } from './places.ts'
import { bytesOfTensor, layOut, type PackedWriter, type SaveOptions, type WeightToWrite, writeFiles } from './save.ts'

/** A matrix of a checkpoint that has not been read. */
export interface MatrixInFile {
  /** `blocks.0.attn.q`, and the file's `model.layers.0.self_attn.q_proj.weight` */
  readonly name: string
  readonly hf: string
  /** the file, for messages */
  readonly file: string
  readonly shape: readonly [out: number, input: number]
  /** [out, in], the caller's to dispose */
  read(): Promise<Tensor2D>
}

/** A matrix that is packed when its numbers are asked for. */
export interface WeightToCome extends WeightToWrite {
  /** decoded [out, in], the caller's to dispose */
  decoded(): Promise<Tensor2D>
}

/** What packs matrices between two files: `streaming(codec)` of @weftjs/quant. */
export interface Repacking {
  /** undefined: it is copied as it is. No more than the parts of the last one asked are held. */
  weight(matrix: MatrixInFile): Promise<WeightToCome | undefined>
  writer(
    network: { readonly weights: Readonly<Record<string, WeightToWrite>> },
    names: Iterable<NameAt>,
  ): Promise<PackedWriter | undefined>
  /** what it still holds goes */
  dispose(): void
}

export interface RepackOptions
  extends Pick<LoadOptions, 'architectures'>,
    Pick<SaveOptions, 'dtype' | 'maxShardBytes'> {
  /** is told what will be written before any of it is; what it throws ends the matter */
  readonly onOpen?: (network: Repacked['network']) => void
}

/** A model on its way from file to file. */
export interface Repacked extends ReturnType<typeof layOut> {
  /** what the model is, its matrices none of which is read; `codec` and `parts` of those that are packed */
  readonly network: Readonly<{ config: TransformerConfig; weights: Readonly<Record<string, WeightToWrite>> }>
  /** `quantization_config`, where something is packed */
  readonly packed: PackedWriter | undefined
  close(): Promise<void>
}

/** bytes that are copied at a time: whole elements, however few bits they have */
const PIECE = 3 * 2 ** 20

/** the bytes of a tensor, in another dtype where that is asked for */
async function* copied(
  checkpoint: Checkpoint,
  tensor: string,
  dtype: Dtype,
  buffer: () => Uint8Array,
): AsyncGenerator<Uint8Array> {
  const entry = checkpoint.entry(tensor)
  const place = { file: checkpoint.name, tensor }
  for (let at = 0; at < entry.bytes; at += PIECE) {
    const piece = buffer().subarray(0, Math.min(PIECE, entry.bytes - at))
    await checkpoint.readInto(tensor, piece, at)
    yield entry.dtype === dtype ? piece : encodeFloats(dtype, decodeFloats(entry.dtype, piece, place), place)
  }
}

/** a packed matrix that has no layout of its own in files */
const decoded = async (c: TransformerConfig, name: Name, dtype: Dtype, weight: WeightToCome): Promise<Uint8Array> => {
  const w = await weight.decoded()
  try {
    return await bytesOfTensor(c, name, dtype, () => w)
  } finally {
    dispose(w)
  }
}

/**
 * A model's folder with some of its matrices in a codec's format, none of it in memory: each tensor is read when it is
 * written, one after another. All names and shapes are checked against the config first, as `loadNetwork` does.
 * @throws Error that names the field of config.json, CheckpointError that names the tensor
 */
export const repacked = async (
  folder: Folder,
  how: Repacking,
  { architectures, dtype, onOpen }: Omit<RepackOptions, 'maxShardBytes'> = {},
): Promise<Repacked> => {
  const files = await openModelIn(folder, architectures)
  const { checkpoint } = files
  const close = async (): Promise<void> => {
    how.dispose()
    await checkpoint.close()
  }
  try {
    const { plain } = await inventory(checkpoint, files.architecture, files.config)
    const config = asStored(files, plain)
    const found = new Map(plain.map((f) => [f.name.name, f]))
    const weights: Record<string, WeightToWrite> = {}
    const toCome = new Map<string, WeightToCome>()
    for (const { name, hf, shape } of plain) {
      if (!placeOf(config, name.name).axes) continue
      const matrix = shape as readonly [number, number]
      const weight = await how.weight({
        ...{ name: name.name, hf, file: checkpoint.name, shape: matrix },
        read: () => readFloats(checkpoint, hf, name, shape) as Promise<Tensor2D>,
      })
      weights[name.name] = weight ?? { shape: matrix, parts: {} }
      if (weight) toCome.set(name.name, weight)
    }
    const network = { config, weights }
    onOpen?.(network)
    const packed = toCome.size ? await how.writer(network, namesOf(config)) : undefined
    let held: Uint8Array | undefined
    const buffer = (): Uint8Array => {
      held ??= new Uint8Array(PIECE)
      return held
    }
    const made = layOut(
      config,
      ({ name }) => {
        const place = found.get(name)
        if (!place) return undefined
        const weight = toCome.get(name)
        return {
          shape: place.shape,
          ...(weight && { weight }),
          bytes: (at, wanted) =>
            weight ? decoded(config, at, wanted, weight) : copied(checkpoint, place.hf, wanted, buffer),
        }
      },
      { ...(dtype && { dtype }), ...(packed && { packed }) },
    )
    return { ...made, network, packed, close }
  } catch (error) {
    await close()
    throw error
  }
}

/**
 * Reads a model, packs matrices and writes what becomes of them, a tensor at a time: a model of any size in the memory of
 * its largest matrix. Files go to sinks as those of `saveNetwork` do; in Node, `repack` of @weftjs/model/node writes a folder.
 * @returns the names written
 * @throws what `repacked` does, and what packs throws for a matrix that it cannot pack
 */
export const repackNetwork = async (
  folder: Folder,
  how: Repacking,
  create: (file: string) => Sink | Promise<Sink>,
  { maxShardBytes, ...options }: RepackOptions = {},
): Promise<string[]> => {
  const made = await repacked(folder, how, options)
  try {
    return await writeFiles(made, create, { ...(maxShardBytes !== undefined && { maxShardBytes }) })
  } finally {
    await made.close()
  }
}
