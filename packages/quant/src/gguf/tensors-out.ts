import type { Tensor2D } from '@weftjs/spec'
import { dispose, tensor, tensor1d } from '@weftjs/tensor'
import { type Dtype, decodeFloats, encodeFloats, type TensorSource } from '@weftjs/tensor/checkpoint'
import { dense } from '@weftjs/weight'
import { type GgufParts, gguf } from '../gguf.ts'
import { packedAlone } from '../kernels/packed-alone.ts'
import { type GgmlType, ggmlTypes } from './types.ts'

type Chunks = AsyncGenerator<Uint8Array>
/** made ready to be written at a time, about */
const PIECE = 2 ** 22

/** the same bytes in pieces that are whole multiples of `unit`, no more than `size` in all */
export async function* regrouped(data: TensorSource['data'], unit: number, size: number): Chunks {
  const made = typeof data === 'function' ? await data() : data
  const piece = unit * Math.max(1, Math.floor(PIECE / unit))
  let held = new Uint8Array(0)
  let left = size
  for await (const chunk of made instanceof Uint8Array ? [made] : made) {
    let rest = chunk.subarray(0, left)
    left -= rest.length
    if (held.length) {
      const all = new Uint8Array(held.length + rest.length)
      all.set(held)
      all.set(rest, held.length)
      rest = all
    }
    const whole = rest.length - (rest.length % unit)
    for (let at = 0; at < whole; at += piece) yield rest.subarray(at, Math.min(at + piece, whole))
    held = rest.slice(whole)
  }
  if (held.length) yield held // too few bytes: the writer says so
}

/** rows of `bytes` in groups of `height`, of which row r comes from row `of(r)` */
export const movedRows = (
  source: Uint8Array,
  bytes: number,
  height: number,
  of: (row: number) => number,
): Uint8Array => {
  const rows = new Uint8Array(source.length)
  for (let i = 0; i * bytes < source.length; i++) {
    const j = i - (i % height) + of(i % height)
    rows.set(source.subarray(j * bytes, (j + 1) * bytes), i * bytes)
  }
  return rows
}

/** which place of a tensor a number is at, and what is to be said of it */
export const firstBad = (values: Float32Array, limit: number): number =>
  values.findIndex((v) => !(Math.abs(v) <= limit))

/** float32 numbers of whole rows → the bytes of a type @throws Error where the type can only be read */
const encoded = async (
  type: GgmlType,
  values: Float32Array,
  width: number,
  columns: Float32Array | undefined,
): Promise<Uint8Array> => {
  if (type === 'F32' || type === 'F16' || type === 'BF16') return encodeFloats(type, values)
  const w = tensor(values, [values.length / width, width]) as Tensor2D
  const square = columns && tensor1d(columns)
  const seen = square && { rows: 1, batches: 1, get: () => square }
  const { q } = (await packedAlone(gguf({ type, importance: columns !== undefined }), dense(w), seen))
    .parts as GgufParts
  const words = await q.data()
  dispose([w, q, ...(square ? [square] : [])])
  return new Uint8Array(words.buffer, words.byteOffset, (values.length / width) * rowBytesOf(type, width))
}

const LIMITS: Partial<Record<GgmlType, number>> = { F16: 65_504 }

export interface Conversion {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly type: GgmlType
  /** height of a head whose rows move, and where row r comes from */
  readonly moved?: { readonly height: number; readonly of: (row: number) => number } | undefined
  /** added to each number */
  readonly shift: number
  /** what each column is worth: E[x²]; of a tensor [E, out, in] the columns of each expert */
  readonly importance?: Float32Array | undefined
}

/** A tensor's data as a type of ggml's, a piece at a time. @throws Error that names tensor and index for NaN and infinity */
export async function* converted(data: TensorSource['data'], c: Conversion): Chunks {
  const width = c.shape.length > 1 ? c.shape.at(-1)! : c.moved ? 1 : c.shape[0]!
  const elements = c.shape.reduce((a, b) => a * b, 1)
  const bits = { F64: 64, F32: 32, F16: 16, BF16: 16 }[c.dtype as string]
  if (bits === undefined)
    throw new Error(
      `${c.name}: has dtype ${c.dtype}, which is not written to GGUF; load the model and export the network`,
    )
  const rowBytes = (width * bits) / 8
  const matrix = c.importance && c.shape.length > 2 ? width * c.shape.at(-2)! : elements
  let done = 0
  for await (const piece of regrouped(data, rowBytes * (c.moved?.height ?? 1), (elements * bits) / 8)) {
    const bytes = c.moved ? movedRows(piece, rowBytes, c.moved.height, c.moved.of) : piece
    if (c.dtype === c.type && !c.shift) {
      yield bytes
      continue
    }
    let values = decodeFloats(c.dtype, bytes, { tensor: c.name })
    const bad = firstBad(values, LIMITS[c.type] ?? Number.MAX_VALUE)
    if (bad >= 0)
      throw new Error(
        `${c.name}: element ${done + bad} is ${values[bad]}, which ${c.type} cannot hold; check the checkpoint, or choose another type for it`,
      )
    if (c.shift) values = values.map((v) => v + c.shift)
    // rows of one matrix at a time, each with the columns of its own
    for (let at = 0; at < values.length; ) {
      const e = Math.floor((done + at) / matrix)
      const to = Math.min(values.length, (e + 1) * matrix - done)
      yield await encoded(c.type, values.subarray(at, to), width, c.importance?.subarray(e * width, (e + 1) * width))
      at = to
    }
    done += values.length
  }
}

/** bytes of a row of this type */
export const rowBytesOf = (type: GgmlType, width: number): number =>
  (width / ggmlTypes[type].size) * ggmlTypes[type].bytes
