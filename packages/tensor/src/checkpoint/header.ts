import { bytesOf, type Dtype, dtypes, elementsOf, isDtype } from './dtype.ts'
import { CheckpointError, quote, reason, show } from './error.ts'
import { DuplicateKey, isObject, parseJson } from './json.ts'
import type { ByteSource } from './source.ts'

/** the format's limit on the header's length, bytes */
export const MAX_HEADER = 100_000_000

/** where one tensor lies; `start` and `end` count from the file's first byte */
export interface Span {
  readonly dtype: Dtype
  readonly shape: readonly number[]
  readonly start: number
  readonly end: number
}
export interface Header {
  readonly metadata: Readonly<Record<string, string>>
  /** in the order of their bytes */
  readonly spans: ReadonlyMap<string, Span>
}

const AGAIN = 'the file is truncated or damaged: download or copy it again'
const REWRITE = 'write the file again with a safetensors library'

/** half a surrogate pair cannot be written as UTF-8 */
export const isText = (text: string): boolean => !/\p{Surrogate}/u.test(text)

/** what else a file with this beginning is likely to be */
const guess = (head: Uint8Array): string => {
  const text = String.fromCharCode(...head)
  if (text.startsWith('PK') || head[0] === 0x80) return 'this looks like a PyTorch pickle: convert it to safetensors'
  if (text.startsWith('GGUF')) return 'this looks like a GGUF file: open it with ggufFolder of @weftjs/quant'
  if (text.startsWith('version ')) return 'this looks like a Git LFS pointer: run `git lfs pull`'
  if (text.trimStart().startsWith('<')) return 'this looks like an HTML page: check the address and the access token'
  if (text.trimStart().startsWith('{')) return 'this looks like JSON: choose a .safetensors file'
  return 'this is no safetensors file, or a damaged one'
}

/** Reads and checks the header: at most two small reads, none longer than the file. */
export const readHeader = async (source: ByteSource): Promise<Header> => {
  const file = source.name
  const { size } = source
  if (size < 8) throw new CheckpointError(`only ${size} bytes, no safetensors header; ${AGAIN}`, { file })
  const head = await source.read(0, 8)
  const words = new DataView(head.buffer, head.byteOffset, 8)
  const length = words.getUint32(0, true) + words.getUint32(4, true) * 2 ** 32
  if (length > MAX_HEADER)
    throw new CheckpointError(`header length ${length} over the limit of ${MAX_HEADER}; ${guess(head)}`, { file })
  if (length > size - 8) {
    const hint = guess(head)
    throw new CheckpointError(
      `header length ${length} runs past the end of the file of ${size} bytes; ${hint.startsWith('this looks') ? hint : AGAIN}`,
      { file },
    )
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await source.read(8, 8 + length))
  } catch (error) {
    if (error instanceof CheckpointError) throw error
    throw new CheckpointError(`header is not UTF-8; ${guess(head)}`, { file }, { cause: error })
  }
  return parseHeader(text, { file, first: 8 + length, size })
}

interface Extent {
  readonly file: string
  /** first byte of the data */
  readonly first: number
  /** of the file */
  readonly size: number
}

const parseHeader = (text: string, { file, first, size }: Extent): Header => {
  if (!text.startsWith('{'))
    throw new CheckpointError(`header begins with ${show(text.slice(0, 8))}, not with {; ${REWRITE}`, { file })
  let root: unknown
  try {
    root = parseJson(text)
  } catch (error) {
    if (error instanceof DuplicateKey)
      throw new CheckpointError(`occurs twice in the header; ${REWRITE}`, { file, tensor: error.key })
    throw new CheckpointError(`header is not valid JSON: ${reason(error)}; ${AGAIN}`, { file }, { cause: error })
  }
  if (!isObject(root)) throw new CheckpointError(`header is ${show(root)}, not an object; ${REWRITE}`, { file })
  let metadata: Record<string, string> = Object.create(null)
  const spans: [string, Span][] = []
  for (const [name, value] of Object.entries(root))
    if (name === '__metadata__') metadata = readMetadata(value, file)
    else spans.push([name, readSpan(name, value, { file, first, size })])
  spans.sort(([, a], [, b]) => a.start - b.start || a.end - b.end)
  checkCover(spans, { file, first, size })
  return { metadata, spans: new Map(spans) }
}

const readMetadata = (value: unknown, file: string): Record<string, string> => {
  const metadata: Record<string, string> = Object.create(null)
  if (value === null) return metadata
  if (!isObject(value)) throw new CheckpointError(`__metadata__ is ${show(value)}, not an object; ${REWRITE}`, { file })
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string')
      throw new CheckpointError(`__metadata__ ${quote(key)} is ${show(text)}, not a string; ${REWRITE}`, { file })
    metadata[key] = text
  }
  return metadata
}

const readSpan = (tensor: string, value: unknown, { file, first, size }: Extent): Span => {
  const fail = (found: string, remedy = REWRITE): never => {
    throw new CheckpointError(`${found}; ${remedy}`, { file, tensor })
  }
  if (!isText(tensor)) fail('name holds half a surrogate pair')
  if (!isObject(value)) return fail(`described by ${show(value)}, not an object`)
  const get = (key: string): unknown => (Object.hasOwn(value, key) ? value[key] : undefined)
  const dtype = get('dtype')
  if (!isDtype(dtype)) return fail(`unknown dtype ${show(dtype)}`, `known are ${dtypes.join(' ')}`)
  const shape = get('shape')
  if (!Array.isArray(shape)) return fail(`shape is ${show(shape)}, not a list`)
  const elements = elementsOf(shape)
  if (elements === undefined) {
    const bad = shape.find((side) => !Number.isSafeInteger(side) || side < 0)
    return fail(
      bad === undefined
        ? `shape ${show(shape)} has more than 2^53 elements`
        : `shape ${show(shape)} has the side ${show(bad)}, not a non-negative integer below 2^53`,
    )
  }
  const bytes = bytesOf(dtype, elements)
  if (bytes === undefined) return fail(`${elements} elements of ${dtype} overflow 2^53 bits or do not fill whole bytes`)
  const offsets = get('data_offsets')
  if (!(Array.isArray(offsets) && offsets.length === 2 && offsets.every((x) => Number.isSafeInteger(x) && x >= 0)))
    return fail(`data_offsets are ${show(offsets)}, not two non-negative integers`)
  const [from, to] = offsets as [number, number]
  if (from > to) return fail(`data_offsets ${show(offsets)} run backwards`)
  if (to > size - first)
    return fail(`data_offsets ${show(offsets)} pass the end of the ${size - first} bytes of data`, AGAIN)
  if (to - from !== bytes)
    return fail(`data_offsets ${show(offsets)} hold ${to - from} bytes, ${dtype} ${show(shape)} needs ${bytes}`)
  return { dtype, shape: Object.freeze(shape as number[]), start: first + from, end: first + to }
}

/** the tensors, in order, must cover the data exactly */
const checkCover = (spans: readonly [string, Span][], { file, first, size }: Extent): void => {
  let at = first
  let before = ''
  for (const [tensor, { start, end }] of spans) {
    if (start < at)
      throw new CheckpointError(`bytes overlap those of ${quote(before)} by ${at - start}; ${REWRITE}`, {
        file,
        tensor,
      })
    if (start > at) throw new CheckpointError(`a hole of ${start - at} bytes before it; ${REWRITE}`, { file, tensor })
    at = end
    before = tensor
  }
  if (at !== size)
    throw new CheckpointError(`${size - at} bytes after the last tensor belong to none; ${REWRITE}`, { file })
}
