/** Floating tensors from the bytes of a checkpoint, and bytes of tensors, by the shortest way that the backend has. */
import { keep, type Tensor, tensor, tidy } from '@tensorflow/tfjs-core'
import { type Checkpoint, type Dtype, decodeFloats } from './checkpoint/index.ts'
import { engine } from './engine.ts'
import { addressOf, heapBytes, output, routines } from './heap.ts'
import * as module from './wasm/widen.generated.ts'

/** bytes that are asked for at a time: the heap may move between two pieces */
const PIECE = 2 ** 25
/** what is read where it is to lie: elements as they are, or 16 bits each, made wider in place */
const WIDEN: Readonly<Record<string, string | undefined>> = { F32: '', BF16: 'widenBf16', F16: 'widenF16' }

const onHeap = (): boolean => engine().backendName === 'wasm' && routines(module) !== undefined

/** a kept tensor whose numbers are to be put, `bytes` long as they are, to `from` */
const unfilled = (shape: readonly number[], bytes: number): { t: Tensor; from: number } => {
  const t = tidy(() => keep(output(shape)))
  // the end of the place, so that widening reads before it writes
  return { t, from: addressOf(t) + 4 * t.size - bytes }
}
const widened = (t: Tensor, dtype: Dtype, from: number): Tensor => {
  const widen = WIDEN[dtype]
  if (widen) routines(module)![widen]!(from, addressOf(t), t.size)
  return t
}

const intoHeap = async (checkpoint: Checkpoint, name: string, shape: readonly number[]): Promise<Tensor> => {
  const { dtype, bytes } = checkpoint.entry(name)
  const { t, from } = unfilled(shape, bytes)
  try {
    for (let done = 0; done < bytes; done += PIECE)
      await checkpoint.readInto(name, heapBytes(from + done, Math.min(PIECE, bytes - done)), done)
  } catch (error) {
    t.dispose()
    throw error
  }
  return widened(t, dtype, from)
}

/**
 * The tensor, of `shape` (which must have as many elements as the file's), kept. On the wasm heap the bytes of F32, BF16
 * and F16 are read to where they stay, with no copy between.
 * @throws CheckpointError when there is no such tensor, it is not floating, or it cannot be read
 */
export const readTensor = async (checkpoint: Checkpoint, name: string, shape: readonly number[]): Promise<Tensor> => {
  const { dtype } = checkpoint.entry(name)
  if (WIDEN[dtype] !== undefined && onHeap()) return intoHeap(checkpoint, name, shape)
  const values = await checkpoint.floats(name)
  return tidy(() => keep(tensor(values, shape as number[], 'float32')))
}

/**
 * The bytes of a floating dtype as a float32 tensor of `shape` (which must have as many elements), kept; on the wasm heap
 * F32, BF16 and F16 are copied once.
 * @throws CheckpointError for a dtype that is not floating
 */
export const tensorFrom = (dtype: Dtype, bytes: Uint8Array, shape: readonly number[]): Tensor => {
  if (WIDEN[dtype] === undefined || !onHeap())
    return tidy(() => keep(tensor(decodeFloats(dtype, bytes), shape as number[], 'float32')))
  const { t, from } = unfilled(shape, bytes.byteLength)
  heapBytes(from, bytes.byteLength).set(bytes)
  return widened(t, dtype, from)
}

/**
 * The bytes of a float32 or int32 tensor, to read and not to keep: on the wasm heap they are where they lie, good until the
 * tensor goes or the next one is made.
 */
export const bytesIn = async (t: Tensor): Promise<Uint8Array> => {
  if (t.size > 0 && onHeap()) return heapBytes(addressOf(t), 4 * t.size)
  const { buffer, byteOffset, byteLength } = await t.data()
  return new Uint8Array(buffer, byteOffset, byteLength)
}
