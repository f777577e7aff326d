import { CheckpointError, elementsOf, type Sink } from '@weftjs/tensor/checkpoint'
import { type GgufField, type GgufMetadata, type GgufScalar, type GgufScalarType, scalarTypes } from './field.ts'
import { bytesOfType, type GgmlType, ggmlTypes } from './types.ts'

type Chunks = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>

/** A tensor to write; its bytes are asked for when its turn comes, and not kept. */
export interface GgufSource {
  readonly name: string
  readonly type: GgmlType
  /** outermost first */
  readonly shape: readonly number[]
  /** whole, in pieces, or made when called */
  readonly data: Chunks | (() => Chunks | Promise<Chunks>)
}
export interface GgufFile {
  readonly metadata: GgufMetadata
  readonly tensors: readonly GgufSource[]
  /** of each tensor's first byte: a power of two */
  readonly alignment?: number
}

/** ggml keeps a tensor's name in 64 bytes, the last of them 0 */
const NAME = 63
const utf8 = new TextEncoder()

/** little-endian bytes that grow */
const buffer = () => {
  let bytes = new Uint8Array(1 << 16)
  let view = new DataView(bytes.buffer)
  let at = 0
  const room = (n: number): number => {
    if (at + n > bytes.length) {
      const more = new Uint8Array(Math.max(2 * bytes.length, at + n))
      more.set(bytes)
      bytes = more
      view = new DataView(bytes.buffer)
    }
    at += n
    return at - n
  }
  const u32 = (n: number): void => {
    const from = room(4)
    view.setUint32(from, n, true)
  }
  const u64 = (n: number | bigint): void => {
    const from = room(8)
    view.setBigUint64(from, BigInt(n), true)
  }
  const text = (s: string): void => {
    const encoded = utf8.encode(s)
    u64(encoded.length)
    const from = room(encoded.length)
    bytes.set(encoded, from)
  }
  const scalar = (type: GgufScalarType, v: GgufScalar): void => {
    if (type === 'string') {
      text(v as string)
      return
    }
    if (type === 'u64' || type === 'i64') {
      u64(BigInt.asUintN(64, BigInt(v as number | bigint)))
      return
    }
    const from = room(type === 'f64' ? 8 : /32$/.test(type) ? 4 : /16$/.test(type) ? 2 : 1)
    const n = Number(v)
    if (type === 'f64') view.setFloat64(from, n, true)
    else if (type === 'f32') view.setFloat32(from, n, true)
    else if (type === 'u32' || type === 'i32') view.setUint32(from, n, true)
    else if (type === 'u16' || type === 'i16') view.setUint16(from, n, true)
    else view.setUint8(from, n)
  }
  const pad = (to: number): void => void room((to - (at % to)) % to)
  return { u32, u64, text, scalar, pad, room, done: (): Uint8Array => bytes.subarray(0, at) }
}

const RANGES: Partial<Record<GgufScalarType, readonly [lo: bigint, hi: bigint]>> = {
  u8: [0n, 255n],
  i8: [-128n, 127n],
  u16: [0n, 65_535n],
  i16: [-32_768n, 32_767n],
  u32: [0n, 2n ** 32n - 1n],
  i32: [-(2n ** 31n), 2n ** 31n - 1n],
  u64: [0n, 2n ** 64n - 1n],
  i64: [-(2n ** 63n), 2n ** 63n - 1n],
}

/** @throws CheckpointError for a value that its type does not hold */
const checkScalar = (key: string, type: GgufScalarType, v: GgufScalar): void => {
  const range = RANGES[type]
  const fits = range
    ? (typeof v === 'bigint' || Number.isInteger(v)) &&
      BigInt(v as number) >= range[0] &&
      BigInt(v as number) <= range[1]
    : typeof v === (type === 'string' ? 'string' : type === 'bool' ? 'boolean' : 'number')
  if (!fits) throw new CheckpointError(`metadata ${key}: ${String(v).slice(0, 80)} is no ${type}; choose another type`)
}

const writeField = (to: ReturnType<typeof buffer>, key: string, field: GgufField): void => {
  if (field.type !== 'array') {
    checkScalar(key, field.type, field.value)
    to.scalar(field.type, field.value)
    return
  }
  to.u32(scalarTypes.indexOf(field.of))
  to.u64(field.value.length)
  if (field.of === 'array') for (const inner of field.value as readonly GgufField[]) writeField(to, key, inner)
  else
    for (const v of field.value as readonly GgufScalar[]) {
      checkScalar(key, field.of, v)
      to.scalar(field.of, v)
    }
}

/** bytes of a declared tensor @throws CheckpointError for a declaration that cannot be written */
const sizeOf = ({ name: tensor, type, shape }: GgufSource): number => {
  const fail = (found: string): never => {
    throw new CheckpointError(found, { tensor })
  }
  const n = utf8.encode(tensor).length
  if (n > NAME || n === 0) return fail(`a name of ${n} bytes, where ggml takes 1 to ${NAME}; choose another`)
  const layout = ggmlTypes[type]
  if (!layout) return fail(`unknown type ${type}; known are ${Object.keys(ggmlTypes).join(' ')}`)
  const elements = elementsOf(shape)
  if (elements === undefined || shape.length > 4 || shape.length === 0)
    return fail(`shape [${shape}] cannot be stored; one to four sides, less than 2^53 elements`)
  if (shape.at(-1)! % layout.size)
    return fail(
      `shape [${shape}]: rows of ${shape.at(-1)} are no whole blocks of ${layout.size} numbers, as ${type} has; choose another type for it`,
    )
  return bytesOfType(layout, elements)
}

const headerOf = ({ metadata, tensors }: GgufFile, sizes: readonly number[], alignment: number): Uint8Array => {
  const to = buffer()
  for (const c of 'GGUF') to.scalar('u8', c.charCodeAt(0))
  to.u32(3)
  const stated = alignment !== 32 && !metadata.has('general.alignment')
  to.u64(tensors.length)
  to.u64(metadata.size + (stated ? 1 : 0))
  const all: Iterable<[string, GgufField]> = stated
    ? [...metadata, ['general.alignment', { type: 'u32', value: alignment }]]
    : metadata
  for (const [key, field] of all) {
    to.text(key)
    to.u32(scalarTypes.indexOf(field.type))
    writeField(to, key, field)
  }
  const names = new Set<string>()
  let offset = 0
  for (const [i, { name, type, shape }] of tensors.entries()) {
    if (names.has(name)) throw new CheckpointError('given twice; names must differ', { tensor: name })
    names.add(name)
    to.text(name)
    to.u32(shape.length)
    for (const side of [...shape].reverse()) to.u64(side)
    to.u32(ggmlTypes[type].id)
    to.u64(offset)
    offset = Math.ceil((offset + sizes[i]!) / alignment) * alignment
  }
  to.pad(alignment)
  return to.done()
}

/**
 * Writes a GGUF file of version 3: the header from the declarations, then tensor after tensor, holding no more than a
 * piece of one. The sink is closed when all is written and aborted when anything fails.
 * @throws CheckpointError for a malformed declaration, or data that is not as long as declared; what a producer throws
 */
export const writeGguf = async (sink: Sink, file: GgufFile): Promise<void> => {
  try {
    const stated = file.metadata.get('general.alignment')?.value
    const alignment = file.alignment ?? (typeof stated === 'number' ? stated : 32)
    if (!(alignment >= 8 && Number.isInteger(Math.log2(alignment))) || (stated !== undefined && stated !== alignment))
      throw new CheckpointError(
        `the alignment ${alignment} is no power of two from 8 on, or not that of general.alignment; leave both out`,
      )
    const sizes = file.tensors.map(sizeOf)
    await sink.write(headerOf(file, sizes, alignment))
    for (const [i, { name: tensor, type, shape, data }] of file.tensors.entries()) {
      const want = sizes[i]!
      const wrong = (got: string): CheckpointError =>
        new CheckpointError(`${got} bytes of data for ${type} [${shape}], which needs ${want}`, { tensor })
      const made = typeof data === 'function' ? await data() : data
      let got = 0
      for await (const chunk of made instanceof Uint8Array ? [made] : made) {
        got += chunk.byteLength
        if (got > want) throw wrong(`${got} or more`)
        if (chunk.byteLength) await sink.write(chunk)
      }
      if (got !== want) throw wrong(String(got))
      const rest = (alignment - (want % alignment)) % alignment
      if (rest) await sink.write(new Uint8Array(rest))
    }
    await sink.close()
  } catch (error) {
    await sink.abort?.()
    throw error
  }
}
