/** Bytes with random access: a file, a Blob, OPFS, HTTP ranges. `read` gives bytes start..end-1. */
export interface ByteSource {
  readonly size: number
  readonly name: string
  read(start: number, end: number): Promise<Uint8Array>
}

/** What can be read at any place, as Parquet needs. */
export type RandomInput = Uint8Array | Blob | ByteSource

/** What a reader takes: bytes at rest, or a stream of bytes or text (which can be read once only, if it is a generator). */
export type Input = RandomInput | AsyncIterable<Uint8Array | string>

const isStream = (input: Input): input is AsyncIterable<Uint8Array | string> => Symbol.asyncIterator in input

/** The name for messages: that of the source or file, else `input`. */
export const nameOf = (input: Input): string =>
  'name' in input && typeof input.name === 'string' && input.name !== '' ? input.name : 'input'

/** Any bytes at rest as one kind of thing; a read that comes back short is an error. */
export const randomAccess = (input: RandomInput): ByteSource => {
  const name = nameOf(input)
  if (input instanceof Uint8Array)
    return { name, size: input.length, read: async (start, end) => input.subarray(start, end) }
  if (input instanceof Blob)
    return {
      name,
      size: input.size,
      read: async (start, end) => new Uint8Array(await input.slice(start, end).arrayBuffer()),
    }
  return {
    name,
    size: input.size,
    read: async (start, end) => {
      const bytes = await input.read(start, end)
      if (bytes.length !== end - start)
        throw new Error(
          `${name}: ${bytes.length} bytes came for ${start}..${end}, want ${end - start}; was it cut short while it was read?`,
        )
      return bytes
    },
  }
}

/** The pieces of an input in order, `chunk` bytes at a time where the input does not say. */
export async function* pieces(
  input: Input,
  chunk: number = 1 << 20,
): AsyncGenerator<Uint8Array | string, void, undefined> {
  if (isStream(input)) {
    yield* input
    return
  }
  const source = randomAccess(input)
  for (let at = 0; at < source.size; at += chunk) yield source.read(at, Math.min(at + chunk, source.size))
}
