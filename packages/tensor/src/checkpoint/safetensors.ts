import { type Dtype, decodeFloats, decodeInts } from './dtype.ts'
import { CheckpointError, quote, reading } from './error.ts'
import { readHeader } from './header.ts'
import type { ByteSource } from './source.ts'

export interface Entry {
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** size in the file */
  readonly bytes: number
}
/** One tensor as it lies in the file: little-endian, row-major. */
export interface TensorBytes {
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** may be a view of the source: do not write into it */
  readonly data: Uint8Array
}

/** Named tensors in one file or several; only headers are read until a tensor is asked for. */
export interface Checkpoint {
  /** file or folder, for messages */
  readonly name: string
  readonly metadata: Readonly<Record<string, string>>
  /** in the order of their bytes, which is the quickest to read them in */
  readonly names: readonly string[]
  has(name: string): boolean
  /** @throws CheckpointError when there is no such tensor */
  entry(name: string): Entry
  read(name: string): Promise<TensorBytes>
  /** fills `target` with the tensor's bytes from `from` on (0) @throws CheckpointError where it asks for more than there is */
  readInto(name: string, target: Uint8Array, from?: number): Promise<void>
  /** a floating tensor as float32 @throws CheckpointError for integers and C64 */
  floats(name: string): Promise<Float32Array>
  /** an integer or BOOL tensor as int32 @throws CheckpointError for floats and values outside int32 */
  ints(name: string): Promise<Int32Array>
  close(): Promise<void>
}

/** the error for a tensor that is not there, with names that resemble it */
export const missing = (file: string, tensor: string, names: readonly string[]): CheckpointError => {
  const tail = tensor.split('.').slice(-2).join('.')
  const near = names.filter((name) => name.endsWith(tail)).slice(0, 3)
  const some = near.length > 0 ? near : names.slice(0, 3)
  const listed =
    some.length > 0 ? `it has ${names.length} tensors, such as ${some.map((n) => quote(n)).join(', ')}` : 'it has none'
  return new CheckpointError(`not in this checkpoint; ${listed}`, { file, tensor })
}

/** Completes `entry`, `read` and `readInto` to a checkpoint. */
export const checkpointOf = (
  parts: Pick<Checkpoint, 'name' | 'metadata' | 'names' | 'has' | 'entry' | 'read' | 'readInto' | 'close'>,
): Checkpoint => ({
  ...parts,
  floats: async (name) => {
    const { dtype, data } = await parts.read(name)
    return decodeFloats(dtype, data, { file: parts.name, tensor: name })
  },
  ints: async (name) => {
    const { dtype, data } = await parts.read(name)
    return decodeInts(dtype, data, { file: parts.name, tensor: name })
  },
})

/**
 * Opens a safetensors file: reads and checks its header, and nothing else until asked.
 * @throws CheckpointError for whatever is wrong with the file, having closed the source
 */
export const openSafetensors = async (source: ByteSource): Promise<Checkpoint> => {
  const file = source.name
  const remedy = 'check that the file is still there and readable'
  const close = async (): Promise<void> => source.close?.()
  try {
    const { metadata, spans } = await reading({ file }, () => readHeader(source), remedy)
    const names = Object.freeze([...spans.keys()])
    const find = (name: string) => {
      const span = spans.get(name)
      if (!span) throw missing(file, name, names)
      return span
    }
    return checkpointOf({
      name: file,
      metadata,
      names,
      has: (name) => spans.has(name),
      entry: (name) => {
        const { dtype, shape, start, end } = find(name)
        return { dtype, shape, bytes: end - start }
      },
      read: async (tensor) => {
        const { dtype, shape, start, end } = find(tensor)
        const data = await reading({ file, tensor }, () => source.read(start, end), remedy)
        if (data.byteLength !== end - start)
          throw new CheckpointError(`${data.byteLength} of ${end - start} bytes came; ${remedy}`, { file, tensor })
        return { dtype, shape, data }
      },
      readInto: async (tensor, target, from = 0) => {
        const { start, end } = find(tensor)
        const to = start + from + target.byteLength
        if (!(from >= 0 && to <= end))
          throw new CheckpointError(`bytes ${from} to ${to - start} asked of ${end - start}`, { file, tensor })
        await reading(
          { file, tensor },
          async () => {
            if (source.readInto) await source.readInto(start + from, target)
            else target.set(await source.read(start + from, to))
          },
          remedy,
        )
      },
      close,
    })
  } catch (error) {
    await close()
    throw error
  }
}
