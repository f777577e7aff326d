import type { Tensor2D } from '@weftjs/spec'
import { dispose, tensor1d } from '@weftjs/tensor'
import { type Dtype, decodeFloats, encodeFloats, type TensorSource } from '@weftjs/tensor/checkpoint'
import { bytesIn, tensorFrom } from '@weftjs/tensor/read-tensor'
import { dense } from '@weftjs/weight'
import { type GgufParts, gguf } from '../gguf.ts'
import { firstNonFinite } from '../kernels/absmax.ts'
import { packedAlone } from '../kernels/packed-alone.ts'
import { type GgmlType, ggmlTypes } from './types.ts'

type Chunks = AsyncGenerator<Uint8Array>
/** made ready to be written at a time, about */
const PIECE = 2 ** 22

/** the same bytes in pieces that are whole multiples of `unit`, no more than `size` in all, each good until the next */
export async function* regrouped(data: TensorSource['data'], unit: number, size: number): Chunks {
  const made = typeof data === 'function' ? await data() : data
  const piece = unit * Math.max(1, Math.floor(PIECE / unit))
  let begun: Uint8Array | undefined // a unit of which some bytes have come
  let filled = 0
  let left = size
  for await (const chunk of made instanceof Uint8Array ? [made] : made) {
    let rest = chunk.subarray(0, left)
    left -= rest.length
    if (filled) {
      const more = rest.subarray(0, unit - filled)
      begun!.set(more, filled)
      filled += more.length
      rest = rest.subarray(more.length)
      if (filled < unit) continue
      filled = 0
      yield begun!
    }
    const whole = rest.length - (rest.length % unit)
    for (let at = 0; at < whole; at += piece) yield rest.subarray(at, Math.min(at + piece, whole))
    if (whole === rest.length) continue
    begun ??= new Uint8Array(unit)
    begun.set(rest.subarray(whole))
    filled = rest.length - whole
  }
  if (filled) yield begun!.subarray(0, filled) // too few bytes: the writer says so
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

/** the bytes of a type that has blocks, good until the next are asked for @throws Error where the type can only be read */
async function* encoded(type: GgmlType, w: Tensor2D, columns: Float32Array | undefined): Chunks {
  const square = columns && tensor1d(columns)
  const seen = square && { rows: 1, batches: 1, get: () => square }
  const { parts } = await packedAlone(gguf({ type, importance: columns !== undefined }), dense(w), seen)
  try {
    const words = await bytesIn((parts as GgufParts).q)
    yield words.subarray(0, w.shape[0] * rowBytesOf(type, w.shape[1]))
  } finally {
    dispose([parts, ...(square ? [square] : [])])
  }
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
  const bad = (i: number, value: number | undefined): Error =>
    new Error(
      `${c.name}: element ${done + i} is ${value}, which ${c.type} cannot hold; check the checkpoint, or choose another type for it`,
    )
  for await (const piece of regrouped(data, rowBytes * (c.moved?.height ?? 1), (elements * bits) / 8)) {
    const bytes = c.moved ? movedRows(piece, rowBytes, c.moved.height, c.moved.of) : piece
    const count = (8 * bytes.length) / bits
    if (c.dtype === c.type && !c.shift) yield bytes
    else if (ggmlTypes[c.type].size === 1) {
      let values = decodeFloats(c.dtype, bytes, { tensor: c.name })
      const at = firstBad(values, LIMITS[c.type] ?? Number.MAX_VALUE)
      if (at >= 0) throw bad(at, values[at])
      if (c.shift) values = values.map((v) => v + c.shift)
      yield encodeFloats(c.type as Dtype, values)
    } else {
      // rows of one matrix at a time, each with the columns of its own
      for (let at = 0; at < count; ) {
        const e = Math.floor((done + at) / matrix)
        const to = Math.min(count, (e + 1) * matrix - done)
        const some = bytes.subarray((at * bits) / 8, (to * bits) / 8)
        const w = tensorFrom(c.dtype, some, [(to - at) / width, width]) as Tensor2D
        try {
          const odd = await firstNonFinite(w)
          if (odd !== undefined) throw bad(at + odd, (await w.data())[odd])
          yield* encoded(c.type, w, c.importance?.subarray(e * width, (e + 1) * width))
        } finally {
          w.dispose()
        }
        at = to
      }
    }
    done += count
  }
}

/** bytes of a row of this type */
export const rowBytesOf = (type: GgmlType, width: number): number =>
  (width / ggmlTypes[type].size) * ggmlTypes[type].bytes
