import { type ByteSource, blobSink, fromBytes, type Sink } from '@weftjs/tensor/checkpoint'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type GgufField, type GgufScalarType, scalarTypes } from '../src/gguf/field.ts'
import { type Gguf, openGguf } from '../src/gguf/reader.ts'
import { type GgmlType, ggmlTypes } from '../src/gguf/types.ts'
import { type GgufFile, type GgufSource, writeGguf } from '../src/gguf/writer.ts'

const written = async (file: GgufFile): Promise<Uint8Array> => {
  const sink = blobSink()
  await writeGguf(sink, file)
  return new Uint8Array(await sink.blob().arrayBuffer())
}
const opened = (bytes: Uint8Array): Promise<Gguf> => openGguf(fromBytes(bytes, 'x.gguf'))
const says = async (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'nothing was thrown',
    (error: Error) => `${error.name}: ${error.message}`,
  )

const ramp = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (7 * i + 3) % 256)
const metadata = new Map<string, GgufField>([
  ['general.architecture', { type: 'string', value: 'llama' }],
  ['n', { type: 'u32', value: 7 }],
  ['list', { type: 'array', of: 'i16', value: [1, -2, 3] }],
])
const small: GgufFile = {
  metadata,
  tensors: [
    { name: 'a.weight', type: 'F32', shape: [2, 3], data: ramp(24) },
    { name: 'b.weight', type: 'Q4_0', shape: [2, 32], data: () => [ramp(20), ramp(16)] },
  ],
}

/** the file of one u32 field and one tensor [2, 3] of float32, put together by hand from the format's description */
const byHand = (): Uint8Array => {
  const bytes: number[] = []
  const u32 = (n: number): void => void bytes.push(n & 255, (n >> 8) & 255, (n >> 16) & 255, (n >>> 24) & 255)
  const u64 = (n: number): void => {
    u32(n)
    u32(0)
  }
  const text = (s: string): void => {
    u64(s.length)
    bytes.push(...[...s].map((c) => c.charCodeAt(0)))
  }
  bytes.push(0x47, 0x47, 0x55, 0x46)
  u32(3)
  u64(1)
  u64(1)
  text('n')
  u32(4)
  u32(7)
  text('t')
  u32(2)
  u64(3)
  u64(2)
  u32(0)
  u64(0)
  while (bytes.length % 32) bytes.push(0)
  bytes.push(...ramp(24), ...new Array(8).fill(0))
  return Uint8Array.from(bytes)
}
/** where things are in it */
const AT = {
  version: 4,
  tensors: 8,
  fields: 16,
  key: 24,
  type: 33,
  value: 37,
  name: 41,
  rank: 50,
  dims: 54,
  kind: 70,
  offset: 74,
}
const patched = (at: number, ...values: readonly number[]): Uint8Array => {
  const bytes = byHand()
  bytes.set(values, at)
  return bytes
}

describe('a GGUF file', () => {
  it('is written as the format describes it', async () => {
    const found = await written({
      metadata: new Map([['n', { type: 'u32', value: 7 }]]),
      tensors: [{ name: 't', type: 'F32', shape: [2, 3], data: ramp(24) }],
    })
    expect([...found]).toEqual([...byHand()])
  })

  it('comes back as it was given: metadata, types, shapes, bytes', async () => {
    const file = await opened(await written(small))
    expect(file.version).toBe(3)
    expect([...file.metadata]).toEqual([...metadata])
    expect([...file.tensors.values()].map(({ name, type, shape }) => [name, type, shape])).toEqual([
      ['a.weight', 'F32', [2, 3]],
      ['b.weight', 'Q4_0', [2, 32]],
    ])
    expect(await file.read('a.weight')).toEqual(ramp(24))
    expect([...(await file.read('b.weight'))]).toEqual([...ramp(20), ...ramp(16)])
    expect([...(await file.read('b.weight', 18, 22))]).toEqual([...ramp(20).slice(18), ...ramp(2)])
  })

  it('may be of version 2', async () => {
    expect((await opened(patched(AT.version, 2))).version).toBe(2)
  })

  it('is read in growing pieces where the header is long, each tensor when asked for', async () => {
    const value = Array.from({ length: 60_000 }, (_, i) => `token ${i}`)
    const bytes = await written({ ...small, metadata: new Map([['t', { type: 'array', of: 'string', value }]]) })
    const asked: number[] = []
    const source: ByteSource = {
      size: bytes.length,
      name: 'long.gguf',
      read: async (start, end) => {
        asked.push(end)
        return bytes.subarray(start, end)
      },
    }
    const file = await openGguf(source)
    expect(file.metadata.get('t')?.value).toEqual(value)
    expect(asked.length).toBeGreaterThan(1)
    expect(await file.read('a.weight')).toEqual(ramp(24))
  })

  it('keeps another alignment, and says it', async () => {
    const bytes = await written({ ...small, alignment: 128 })
    const file = await opened(bytes)
    expect(file.alignment).toBe(128)
    for (const { start } of file.tensors.values()) expect(start % 128).toBe(0)
    expect(await file.read('a.weight')).toEqual(ramp(24))
  })

  const scalar = (type: GgufScalarType): fc.Arbitrary<number | bigint | boolean | string> => {
    if (type === 'string') return fc.string({ unit: 'grapheme' })
    if (type === 'bool') return fc.boolean()
    if (type === 'f32') return fc.float({ noNaN: true })
    if (type === 'f64') return fc.double({ noNaN: true })
    const bits = Number(type.slice(1))
    const range =
      type[0] === 'u' ? [0n, 2n ** BigInt(bits) - 1n] : [-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n]
    return fc
      .bigInt(range[0]!, range[1]!)
      .map((n) => (n >= -(2n ** 53n) && n <= 2n ** 53n && Number.isSafeInteger(Number(n)) ? Number(n) : n))
  }
  const kinds = scalarTypes.filter((t): t is GgufScalarType => t !== 'array')
  const { field } = fc.letrec<{ field: GgufField }>((tie) => ({
    field: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      ...kinds.map((type) => scalar(type).map((value) => ({ type, value }) as GgufField)),
      ...kinds.map((of) =>
        fc.array(scalar(of), { maxLength: 5 }).map((value) => ({ type: 'array', of, value }) as GgufField),
      ),
      fc
        .array(tie('field') as fc.Arbitrary<GgufField>, { maxLength: 3 })
        .map((all) => ({ type: 'array', of: 'array', value: all.filter((f) => f.type === 'array') }) as GgufField),
    ),
  }))
  const tensor = fc
    .record({
      type: fc.constantFrom(...(Object.keys(ggmlTypes) as GgmlType[])),
      rows: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }),
      blocks: fc.integer({ min: 1, max: 2 }),
    })
    .map(({ type, rows, blocks }) => {
      const { size, bytes } = ggmlTypes[type]
      const n = rows.reduce((a, b) => a * b, blocks)
      return { type, shape: [...rows, size * blocks], data: ramp(n * bytes) }
    })

  it('holds any metadata and any tensors', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(fc.string({ minLength: 1 }), field), { selector: ([k]) => k, maxLength: 6 }),
        fc.uniqueArray(fc.tuple(fc.string({ minLength: 1, maxLength: 12 }), tensor), {
          selector: ([k]) => k,
          maxLength: 4,
        }),
        async (fields, tensors) => {
          const given: GgufSource[] = tensors.map(([name, t]) => ({ name, ...t }))
          const file = await opened(await written({ metadata: new Map(fields), tensors: given }))
          expect([...file.metadata]).toEqual(fields)
          expect(file.tensors.size).toBe(given.length)
          for (const { name, shape, type, data } of given) {
            expect(file.tensors.get(name)).toMatchObject({ type, shape })
            expect([...(await file.read(name))]).toEqual([...(data as Uint8Array)])
          }
        },
      ),
      { numRuns: 150 },
    )
  })
})

describe('a hostile or damaged GGUF file', () => {
  it('cut anywhere within header or data is refused with a CheckpointError that names the file', async () => {
    const bytes = await written(small)
    const last = (await opened(bytes)).tensors.get('b.weight')!.end
    for (let n = 0; n < last; n++)
      expect(await says(opened(bytes.slice(0, n))), `${n} bytes`).toMatch(/^CheckpointError: x\.gguf/)
    await opened(bytes.slice(0, last)) // padding after the last tensor may be missing
  })

  it('with any bytes changed is read or refused with a CheckpointError, and reads stay within the file', async () => {
    const bytes = await written(small)
    const header = 240
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(header), fc.oneof(fc.constantFrom(0, 1, 127, 128, 255), fc.nat(255))), {
          minLength: 1,
          maxLength: 6,
        }),
        async (changes) => {
          const copy = bytes.slice()
          for (const [at, value] of changes) copy[at] = value
          try {
            const file = await opened(copy)
            for (const [name, t] of file.tensors) expect((await file.read(name)).length).toBe(t.end - t.start)
          } catch (error) {
            expect((error as Error).name).toBe('CheckpointError')
          }
        },
      ),
      { numRuns: 2000 },
    )
  })

  it.each([
    ['another magic', patched(0, 0x47, 0x47, 0x4d, 0x4c), /begins with "GGML", not with GGUF/],
    ['version 1', patched(AT.version, 1), /version 1/],
    ['version 4', patched(AT.version, 4), /version 4.*update/],
    ['big-endian', patched(AT.version, 0, 0, 0, 3), /big-endian.*gguf_convert_endian/],
    ['2^60 tensors', patched(AT.tensors + 7, 0x10), /tensors cannot lie in/],
    ['2^40 fields', patched(AT.fields + 5, 1), /metadata fields cannot lie in/],
    ['a key of 4 GB', patched(AT.key + 4, 1), /bytes of text cannot lie in/],
    ['an unknown type of value', patched(AT.type, 13), /metadata "n" has the unknown type 13/],
    ['five dimensions', patched(AT.rank, 5), /tensor "t": has 5 dimensions/],
    ['sides whose product overflows', patched(AT.dims + 6, 1, 0, 0, 0, 0, 0, 0, 1), /more than 2\^53 elements/],
    ['an unknown type of tensor', patched(AT.kind, 77), /tensor "t": has the unknown type 77; known are F32 F16/],
    ['a removed type of tensor', patched(AT.kind, 4), /unknown type 4/],
    ['rows that are no whole blocks', patched(AT.kind, 2), /rows of 3 are no whole blocks of 32 numbers, as Q4_0/],
    ['an offset between alignments', patched(AT.offset, 8), /offset 8 is no multiple of the alignment 32/],
    ['an offset past the end', patched(AT.offset + 2, 1), /pass the end of the file/],
    ['an offset past 2^53', patched(AT.offset + 7, 0x80), /2\^53/],
  ])('is refused for %s', async (_, bytes, message) => {
    expect(await says(opened(bytes))).toMatch(message)
  })

  it('is refused for names given twice, and for bytes that two tensors share', async () => {
    const twice = async (file: GgufFile, from: string, to: string): Promise<Uint8Array> => {
      const bytes = await written(file)
      const at = new TextDecoder('latin1').decode(bytes).indexOf(from)
      bytes.set(new TextEncoder().encode(to), at)
      return bytes
    }
    expect(await says(opened(await twice(small, 'b.weight', 'a.weight')))).toMatch(/tensor "a.weight": occurs twice/)
    const fields = new Map<string, GgufField>([
      ['ka', { type: 'u8', value: 1 }],
      ['kb', { type: 'u8', value: 1 }],
    ])
    expect(await says(opened(await twice({ ...small, metadata: fields }, 'kb', 'ka')))).toMatch(
      /metadata "ka" occurs twice/,
    )
    const bytes = await written(small)
    const at = new TextDecoder('latin1').decode(bytes).indexOf('b.weight') + 8 + 4 + 16 + 4
    bytes[at] = 0
    expect(await says(opened(bytes))).toMatch(/tensor "b.weight": its bytes overlap those of "a.weight"/)
  })

  it.each([0, 3, 48])('is refused for the alignment %i', async (n) => {
    const bytes = await written({ ...small, metadata: new Map([['general.alignment', { type: 'u32', value: 32 }]]) })
    const at = new TextDecoder('latin1').decode(bytes).indexOf('general.alignment') + 17 + 4
    bytes[at] = n
    expect(await says(opened(bytes))).toMatch(/not a power of two/)
  })

  it('nests no deeper than a few lists', async () => {
    let deep: GgufField = { type: 'array', of: 'u8', value: [] }
    for (let i = 0; i < 20; i++) deep = { type: 'array', of: 'array', value: [deep] }
    expect(await says(opened(await written({ ...small, metadata: new Map([['d', deep]]) })))).toMatch(/nested deeper/)
  })
})

describe('writing a GGUF file', () => {
  const recorder = (): Sink & { readonly log: string[] } => {
    const log: string[] = []
    return {
      log,
      write: () => void log.push('write'),
      close: () => void log.push('close'),
      abort: () => void log.push('abort'),
    }
  }
  it.each<[string, Partial<GgufFile>, RegExp]>([
    [
      'too little data',
      { tensors: [{ name: 'a', type: 'F32', shape: [2], data: ramp(7) }] },
      /tensor "a": 7 bytes of data for F32 \[2\], which needs 8/,
    ],
    [
      'too much data',
      { tensors: [{ name: 'a', type: 'F32', shape: [2], data: [ramp(8), ramp(1)] }] },
      /9 or more bytes/,
    ],
    ['a name twice', { tensors: [small.tensors[0]!, small.tensors[0]!] }, /given twice/],
    [
      'a long name',
      { tensors: [{ name: 'x'.repeat(64), type: 'F32', shape: [1], data: ramp(4) }] },
      /64 bytes.*1 to 63/,
    ],
    [
      'rows of no whole block',
      { tensors: [{ name: 'a', type: 'Q4_K', shape: [4, 128], data: ramp(1) }] },
      /rows of 128 are no whole blocks of 256/,
    ],
    ['a value of another type', { metadata: new Map([['k', { type: 'u8', value: 256 }]]) }, /metadata k: 256 is no u8/],
    ['a fraction in an integer', { metadata: new Map([['k', { type: 'i32', value: 0.5 }]]) }, /0.5 is no i32/],
    [
      'a producer that fails',
      { tensors: [{ name: 'a', type: 'F32', shape: [2], data: () => Promise.reject(new Error('gone')) }] },
      /gone/,
    ],
    ['an alignment of 24', { alignment: 24 }, /24 is no power of two/],
  ])('aborts the sink for %s', async (_, change, message) => {
    const sink = recorder()
    expect(await says(writeGguf(sink, { ...small, ...change }))).toMatch(message)
    expect(sink.log.at(-1)).toBe('abort')
    expect(sink.log).not.toContain('close')
  })
})
