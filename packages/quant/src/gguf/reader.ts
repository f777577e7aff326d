import { type ByteSource, CheckpointError, elementsOf } from '@weftjs/tensor/checkpoint'
import {
  bytesOfScalar,
  type GgufField,
  type GgufMetadata,
  type GgufScalar,
  type GgufScalarType,
  scalarTypes,
} from './field.ts'
import { bytesOfType, type GgmlType, ggmlType, ggmlTypes } from './types.ts'

/** where one tensor lies; `start` and `end` count from the file's first byte */
export interface GgufTensor {
  readonly name: string
  readonly type: GgmlType
  /** outermost first, as everywhere here; the file has it the other way round */
  readonly shape: readonly number[]
  readonly start: number
  readonly end: number
}
/** A GGUF file whose header has been read and checked, and whose tensors are read when asked for. */
export interface Gguf {
  /** of the file, for messages */
  readonly name: string
  readonly version: number
  readonly alignment: number
  readonly metadata: GgufMetadata
  /** in the order of the header */
  readonly tensors: ReadonlyMap<string, GgufTensor>
  /** a tensor's bytes, or those in [from, to) of it; may be a view of the source @throws CheckpointError for no such tensor */
  read(name: string, from?: number, to?: number): Promise<Uint8Array>
  close(): Promise<void>
}

/** metadata and descriptions together take no more than this; the largest known take a tenth */
const MAX_HEADER = 2 ** 28
const FIRST_READ = 2 ** 18
const DEPTH = 8
const AGAIN = 'the file is truncated or damaged: download or copy it again'
const REWRITE = 'write the file again with a current version of its tool'

/** the window ends before the header does: read more of the file and begin again */
const SHORT = Symbol('short')

/**
 * Opens a GGUF file of version 2 or 3: reads its header in growing pieces, each length held against the file's size
 * before it is believed, and nothing else until asked.
 * @throws CheckpointError for whatever is wrong with the file, having closed the source
 */
export const openGguf = async (source: ByteSource): Promise<Gguf> => {
  try {
    const limit = Math.min(source.size, MAX_HEADER)
    for (let size = Math.min(FIRST_READ, limit); ; size = Math.min(2 * size, limit)) {
      const found = parse(await source.read(0, size), source)
      if (found !== SHORT) return withReads(source, found)
      if (size === source.size)
        throw new CheckpointError(`its header runs past its end; ${AGAIN}`, { file: source.name })
      if (size === limit)
        throw new CheckpointError(`its header takes more than ${MAX_HEADER} bytes; ${REWRITE}`, { file: source.name })
    }
  } catch (error) {
    await source.close?.()
    throw error
  }
}

const withReads = (source: ByteSource, header: Omit<Gguf, 'read' | 'close'>): Gguf => ({
  ...header,
  read: async (tensor, from = 0, to) => {
    const found = header.tensors.get(tensor)
    if (!found) throw new CheckpointError('not in this file', { file: source.name, tensor })
    const end = to ?? found.end - found.start
    if (!(from >= 0 && from <= end && end <= found.end - found.start))
      throw new CheckpointError(`bytes ${from} to ${end} asked of ${found.end - found.start}`, {
        file: source.name,
        tensor,
      })
    return source.read(found.start + from, found.start + end)
  },
  close: async () => source.close?.(),
})

/** a place in the header; each step checks what is left of the file, and gives up where the window ends */
const cursor = (bytes: Uint8Array, { size, name: file }: ByteSource) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const lenient = new TextDecoder('utf-8', { ignoreBOM: true })
  const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true })
  let at = 0
  const fail = (found: string, remedy = REWRITE): never => {
    throw new CheckpointError(`byte ${at}: ${found}; ${remedy}`, { file })
  }
  /** moves on by n bytes and says where they began */
  const skip = (n: number): number => {
    if (n > size - at) return fail(`${n} bytes are announced and ${size - at} are left`, AGAIN)
    if (n > bytes.byteLength - at) throw SHORT
    at += n
    return at - n
  }
  const u32 = (): number => view.getUint32(skip(4), true)
  const big = (signed: boolean): number | bigint => {
    const from = skip(8)
    const value = signed ? view.getBigInt64(from, true) : view.getBigUint64(from, true)
    const near = Number(value)
    return Number.isSafeInteger(near) ? near : value
  }
  /** a number of things of at least `each` bytes */
  const count = (what: string, each: number): number => {
    const n = big(false)
    if (typeof n === 'bigint' || n * each > size - at)
      return fail(`${n} ${what} cannot lie in the ${size - at} bytes that are left`, AGAIN)
    return n
  }
  const text = (what?: string): string => {
    const n = count('bytes of text', 1)
    const from = skip(n)
    const slice = bytes.subarray(from, from + n)
    if (what === undefined) return lenient.decode(slice)
    try {
      return strict.decode(slice)
    } catch {
      return fail(`${what} is not UTF-8`)
    }
  }
  const scalar = (type: GgufScalarType): GgufScalar => {
    switch (type) {
      case 'u8':
        return view.getUint8(skip(1))
      case 'i8':
        return view.getInt8(skip(1))
      case 'u16':
        return view.getUint16(skip(2), true)
      case 'i16':
        return view.getInt16(skip(2), true)
      case 'u32':
        return u32()
      case 'i32':
        return view.getInt32(skip(4), true)
      case 'f32':
        return view.getFloat32(skip(4), true)
      case 'f64':
        return view.getFloat64(skip(8), true)
      case 'bool':
        return view.getUint8(skip(1)) !== 0
      case 'string':
        return text()
      default:
        return big(type === 'i64')
    }
  }
  const kind = (key: string): (typeof scalarTypes)[number] => {
    const n = u32()
    return scalarTypes[n] ?? fail(`metadata ${JSON.stringify(key)} has the unknown type ${n}`)
  }
  const array = (key: string, depth: number): GgufField => {
    if (depth > DEPTH) return fail(`metadata ${JSON.stringify(key)} is nested deeper than ${DEPTH}`)
    const of = kind(key)
    if (of === 'array') {
      const n = count('lists', 12)
      return { type: 'array', of, value: Array.from({ length: n }, () => array(key, depth + 1)) }
    }
    const n = count(`values of type ${of}`, bytesOfScalar[of])
    const value: GgufScalar[] = []
    for (let i = 0; i < n; i++) value.push(scalar(of))
    return { type: 'array', of, value }
  }
  const field = (key: string): GgufField => {
    const type = kind(key)
    return type === 'array' ? array(key, 1) : { type, value: scalar(type) }
  }
  return { at: () => at, fail, skip, u32, big, count, text, field }
}

const parse = (bytes: Uint8Array, source: ByteSource): Omit<Gguf, 'read' | 'close'> | typeof SHORT => {
  try {
    return headerOf(bytes, source)
  } catch (error) {
    if (error === SHORT) return SHORT
    throw error
  }
}

const headerOf = (bytes: Uint8Array, source: ByteSource): Omit<Gguf, 'read' | 'close'> => {
  const file = source.name
  const c = cursor(bytes, source)
  const magic = String.fromCharCode(...bytes.subarray(c.skip(4), 4))
  if (magic !== 'GGUF')
    throw new CheckpointError(`begins with ${JSON.stringify(magic)}, not with GGUF; choose a .gguf file`, { file })
  const version = c.u32()
  if (version !== 2 && version !== 3) {
    const swapped = version !== 0 && (version & 0xffff) === 0
    throw new CheckpointError(
      swapped
        ? 'is big-endian; convert it to little-endian with gguf_convert_endian.py of the gguf package'
        : `is of version ${version}, and 2 and 3 can be read; ${version < 2 ? REWRITE : 'update Weft'}`,
      { file },
    )
  }
  const tensorCount = c.count('tensors', 24)
  const fieldCount = c.count('metadata fields', 13)
  const metadata = new Map<string, GgufField>()
  for (let i = 0; i < fieldCount; i++) {
    const key = c.text('the name of a metadata field')
    if (metadata.has(key)) c.fail(`metadata ${JSON.stringify(key)} occurs twice`)
    metadata.set(key, c.field(key))
  }
  const alignment = alignmentOf(metadata, file)
  const described: (GgufTensor & { offset: number })[] = []
  for (let i = 0; i < tensorCount; i++) described.push(describe(c, alignment, file))
  const data = Math.ceil(c.at() / alignment) * alignment
  const tensors = new Map<string, GgufTensor>()
  for (const { offset, start: _, end: length, ...rest } of described) {
    const [start, end] = [data + offset, data + offset + length]
    if (tensors.has(rest.name)) throw new CheckpointError(`occurs twice; ${REWRITE}`, { file, tensor: rest.name })
    if (end > source.size)
      throw new CheckpointError(`its bytes ${start} to ${end} pass the end of the file of ${source.size}; ${AGAIN}`, {
        file,
        tensor: rest.name,
      })
    tensors.set(rest.name, { ...rest, start, end })
  }
  checkApart([...tensors.values()], file)
  return { name: file, version, alignment, metadata, tensors }
}

const alignmentOf = (metadata: GgufMetadata, file: string): number => {
  const found = metadata.get('general.alignment')
  const n = found === undefined ? 32 : found.value
  if (typeof n === 'number' && n >= 1 && n <= 2 ** 30 && Number.isInteger(Math.log2(n))) return n
  throw new CheckpointError(`general.alignment is ${String(n).slice(0, 40)}, not a power of two; ${REWRITE}`, { file })
}

/** one tensor's description; `end` is its length until it is known where the data begin */
const describe = (c: ReturnType<typeof cursor>, alignment: number, file: string): GgufTensor & { offset: number } => {
  const name = c.text('the name of a tensor')
  const fail = (found: string, remedy = REWRITE): never => {
    throw new CheckpointError(`${found}; ${remedy}`, { file, tensor: name })
  }
  const rank = c.u32()
  if (rank > 4) return fail(`has ${rank} dimensions, more than 4`)
  const dims = Array.from({ length: rank }, () => c.big(false))
  const id = c.u32()
  const offset = c.big(false)
  const shape = dims.reverse()
  const elements = elementsOf(shape)
  if (elements === undefined) return fail(`shape [${shape}] has more than 2^53 elements`)
  const layout = ggmlType(id)
  if (!layout) return fail(`has the unknown type ${id}`, `known are ${Object.keys(ggmlTypes).join(' ')}`)
  const width = Number(shape.at(-1) ?? 1)
  if (width % layout.size)
    return fail(
      `shape [${shape}]: rows of ${width} are no whole blocks of ${layout.size} numbers, as ${layout.type} has`,
    )
  const length = bytesOfType(layout, elements)
  if (typeof offset === 'bigint' || !Number.isSafeInteger(offset + length)) return fail('lies past 2^53 bytes')
  if (offset % alignment) return fail(`its offset ${offset} is no multiple of the alignment ${alignment}`)
  return { name, type: layout.type as GgmlType, shape: shape as number[], offset, start: 0, end: length }
}

const checkApart = (tensors: readonly GgufTensor[], file: string): void => {
  const ordered = tensors.filter((t) => t.end > t.start).sort((a, b) => a.start - b.start)
  for (const [i, { name, start }] of ordered.entries()) {
    const before = ordered[i - 1]
    if (before && start < before.end)
      throw new CheckpointError(`its bytes overlap those of ${JSON.stringify(before.name)}; ${REWRITE}`, {
        file,
        tensor: name,
      })
  }
}
