import { bytesOf, type Dtype, elementsOf, isDtype, rankOf } from './dtype.ts'
import { CheckpointError, show } from './error.ts'
import { isText, MAX_HEADER } from './header.ts'
import type { TensorBytes } from './safetensors.ts'
import type { Sink } from './sink.ts'

type Chunks = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>

/** A tensor to write; its bytes are asked for when its turn comes, and not kept. */
export interface TensorSource {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
  /** little-endian, row-major; whole, in pieces, or made when called */
  readonly data: Chunks | (() => Chunks | Promise<Chunks>)
}
export type Metadata = Readonly<Record<string, string>>

/** order of code points, which is that of UTF-8 bytes */
const byCodePoint = (a: string, b: string): number => {
  for (let i = 0; i < a.length && i < b.length; i++)
    if (a.charCodeAt(i) !== b.charCodeAt(i)) return a.codePointAt(i)! - b.codePointAt(i)!
  return a.length - b.length
}

/** dtypes from the widest alignment down, then names, as the reference writes them */
export const inOrder = <T extends { readonly name: string; readonly dtype: Dtype }>(tensors: readonly T[]): T[] =>
  [...tensors].sort((a, b) => rankOf(b.dtype) - rankOf(a.dtype) || byCodePoint(a.name, b.name))

/** bytes that a declared tensor takes @throws CheckpointError for a declaration that cannot be written */
export const sizeOf = ({ name: tensor, dtype, shape }: Pick<TensorSource, 'name' | 'dtype' | 'shape'>): number => {
  if (tensor === '__metadata__' || !isText(tensor))
    throw new CheckpointError('cannot be the name of a tensor in this format; choose another', { tensor })
  if (!isDtype(dtype)) throw new CheckpointError(`unknown dtype ${show(dtype)}; see \`dtypes\``, { tensor })
  const elements = elementsOf(shape)
  const bytes = elements === undefined ? undefined : bytesOf(dtype, elements)
  if (bytes === undefined)
    throw new CheckpointError(
      `${dtype} ${show(shape)} cannot be stored; sides are non-negative integers, and the bits fill whole bytes below 2^53`,
      { tensor },
    )
  return bytes
}

/** the length and the header, padded with spaces so that the data starts at a multiple of 8 bytes */
const headerOf = (ordered: readonly TensorSource[], sizes: readonly number[], metadata: Metadata): Uint8Array => {
  const names = new Set<string>()
  const fields: string[] = []
  const meta = Object.keys(metadata).sort(byCodePoint)
  for (const key of meta)
    if (typeof metadata[key] !== 'string' || !isText(key) || !isText(metadata[key]))
      throw new CheckpointError(`metadata ${show(key)} is ${show(metadata[key])}; the format holds only text`)
  // written piece by piece: an object would reorder names like "0" and lose "__proto__"
  if (meta.length > 0)
    fields.push(`"__metadata__":{${meta.map((k) => `${JSON.stringify(k)}:${JSON.stringify(metadata[k])}`).join(',')}}`)
  let at = 0
  for (const [i, { name, dtype, shape }] of ordered.entries()) {
    if (names.has(name)) throw new CheckpointError('given twice; names must differ', { tensor: name })
    names.add(name)
    const end = at + sizes[i]!
    if (!Number.isSafeInteger(end)) throw new CheckpointError('the file passes 2^53 bytes', { tensor: name })
    fields.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${at},${end}]}`,
    )
    at = end
  }
  const text = new TextEncoder().encode(`{${fields.join(',')}}`)
  const length = Math.ceil(text.byteLength / 8) * 8
  if (length > MAX_HEADER)
    throw new CheckpointError(`the header takes ${length} bytes of at most ${MAX_HEADER}; write several files`)
  const header = new Uint8Array(8 + length).fill(0x20)
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true)
  header.set(text, 8)
  return header
}

const wrongLength = (tensor: string, dtype: Dtype, shape: readonly number[], got: string, want: number) =>
  new CheckpointError(`${got} bytes of data for ${dtype} ${show(shape)}, which needs ${want}`, { tensor })

/** small pieces travel together: up to so many bytes */
const TOGETHER = 1 << 20
/** where each piece says where it goes, larger ones than this go at once */
const SMALL = 1 << 16

interface Piece {
  readonly at: number
  readonly bytes: Uint8Array
}

/** Pieces on their way to a sink, each at its place: the small ones are held until there are enough, and joined where they meet. */
const placed = (sink: Sink): { put(at: number, bytes: Uint8Array): Promise<void>; flush(): Promise<void> } => {
  const anywhere = sink.writeAt !== undefined
  const most = anywhere ? SMALL : TOGETHER
  const write = async ({ at, bytes }: Piece): Promise<void> => (anywhere ? sink.writeAt!(at, bytes) : sink.write(bytes))
  let held: Piece[] = []
  let size = 0
  const flush = async (): Promise<void> => {
    const runs = joined(held)
    held = []
    size = 0
    if (anywhere) await Promise.all(runs.map(write))
    else for (const run of runs) await write(run)
  }
  return {
    flush,
    put: async (at, bytes) => {
      if (bytes.byteLength >= most) {
        if (!anywhere) await flush()
        await write({ at, bytes })
      } else if (bytes.byteLength > 0) {
        held.push({ at, bytes: new Uint8Array(bytes) }) // a producer may reuse its buffer
        size += bytes.byteLength
        if (size >= TOGETHER) await flush()
      }
    },
  }
}

/** what follows upon each other as one */
const joined = (pieces: readonly Piece[]): Piece[] => {
  const runs: Piece[][] = []
  let end = -1
  for (const piece of [...pieces].sort((a, b) => a.at - b.at)) {
    if (piece.at === end) runs.at(-1)!.push(piece)
    else runs.push([piece])
    end = piece.at + piece.bytes.byteLength
  }
  return runs.map((run) =>
    run.length === 1
      ? run[0]!
      : {
          at: run[0]!.at,
          bytes: concat(
            run.map(({ bytes }) => bytes),
            run.reduce((n, { bytes }) => n + bytes.byteLength, 0),
          ),
        },
  )
}

/**
 * Writes a safetensors file: the header from the declarations, then tensor after tensor, holding no more than one piece.
 * Tensors are asked for in the order of the file, or, where the sink takes pieces anywhere, in the order given: parts that
 * are made together, and lie apart in the file, are then made once. The sink is closed when all is written and aborted when
 * anything fails.
 * @throws CheckpointError for a malformed declaration, or data that is not as long as declared; what a producer throws
 */
export const writeSafetensors = async (
  sink: Sink,
  tensors: readonly TensorSource[],
  metadata: Metadata = {},
): Promise<void> => {
  try {
    const ordered = inOrder(tensors)
    const sizes = ordered.map(sizeOf)
    const header = headerOf(ordered, sizes, metadata)
    const { put, flush } = placed(sink)
    await put(0, header)
    await flush() // a sink that cannot be written says so before anything is made
    const places = new Map<TensorSource, { readonly start: number; readonly want: number }>()
    let next = header.byteLength
    for (const [i, tensor] of ordered.entries()) {
      places.set(tensor, { start: next, want: sizes[i]! })
      next += sizes[i]!
    }
    for (const tensor of sink.writeAt ? tensors : ordered) {
      const { name, dtype, shape, data } = tensor
      const { start, want } = places.get(tensor)!
      const made = typeof data === 'function' ? await data() : data
      let got = 0
      for await (const chunk of made instanceof Uint8Array ? [made] : made) {
        const at = start + got
        got += chunk.byteLength
        if (got > want) throw wrongLength(name, dtype, shape, `${got} or more`, want)
        await put(at, chunk)
      }
      if (got !== want) throw wrongLength(name, dtype, shape, String(got), want)
    }
    await flush()
    await sink.close()
  } catch (error) {
    await sink.abort?.()
    throw error
  }
}

const concat = (chunks: readonly Uint8Array[], size: number): Uint8Array => {
  const all = new Uint8Array(size)
  let at = 0
  for (const chunk of chunks) {
    all.set(chunk, at)
    at += chunk.byteLength
  }
  return all
}

/** a record of tensors as the list that writers take */
export const sources = (record: Readonly<Record<string, TensorBytes>>): TensorSource[] =>
  Object.entries(record).map(([name, tensor]) => ({ name, ...tensor }))

/** A whole safetensors file in memory. @throws CheckpointError for data that is not as long as dtype and shape say */
export const toSafetensors = (record: Readonly<Record<string, TensorBytes>>, metadata: Metadata = {}): Uint8Array => {
  const ordered = inOrder(Object.entries(record).map(([name, tensor]) => ({ name, ...tensor })))
  const sizes = ordered.map(sizeOf)
  for (const [i, { name, dtype, shape, data }] of ordered.entries())
    if (data.byteLength !== sizes[i]) throw wrongLength(name, dtype, shape, String(data.byteLength), sizes[i]!)
  const parts = [headerOf(ordered, sizes, metadata), ...ordered.map(({ data }) => data)]
  return concat(
    parts,
    parts.reduce((sum, part) => sum + part.byteLength, 0),
  )
}
