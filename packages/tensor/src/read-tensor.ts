/** A floating tensor of a checkpoint as a float32 tensor, by the shortest way that the backend has. */
import { keep, type Tensor, tensor, tidy } from '@tensorflow/tfjs-core'
import type { Checkpoint } from './checkpoint/index.ts'
import { engine } from './engine.ts'
import { addressOf, heapBytes, output, routines } from './heap.ts'
import * as module from './wasm/widen.generated.ts'

/** bytes that are asked for at a time: the heap may move between two pieces */
const PIECE = 2 ** 25
/** what is read where it is to lie: elements as they are, or 16 bits each, made wider in place */
const WIDEN: Readonly<Record<string, string | undefined>> = { F32: '', BF16: 'widenBf16', F16: 'widenF16' }

const intoHeap = async (checkpoint: Checkpoint, name: string, shape: readonly number[]): Promise<Tensor> => {
  const { dtype, bytes } = checkpoint.entry(name)
  const t = tidy(() => keep(output(shape)))
  const at = addressOf(t)
  const from = at + 4 * t.size - bytes // the end of the place, so that widening reads before it writes
  try {
    for (let done = 0; done < bytes; done += PIECE)
      await checkpoint.readInto(name, heapBytes(from + done, Math.min(PIECE, bytes - done)), done)
  } catch (error) {
    t.dispose()
    throw error
  }
  const widen = WIDEN[dtype]
  if (widen) routines(module)![widen]!(from, at, t.size)
  return t
}

/**
 * The tensor, of `shape` (which must have as many elements as the file's), kept. On the wasm heap the bytes of F32, BF16
 * and F16 are read to where they stay, with no copy between.
 * @throws CheckpointError when there is no such tensor, it is not floating, or it cannot be read
 */
export const readTensor = async (checkpoint: Checkpoint, name: string, shape: readonly number[]): Promise<Tensor> => {
  const { dtype } = checkpoint.entry(name)
  if (engine().backendName === 'wasm' && WIDEN[dtype] !== undefined && routines(module))
    return intoHeap(checkpoint, name, shape)
  const values = await checkpoint.floats(name)
  return tidy(() => keep(tensor(values, shape as number[], 'float32')))
}
