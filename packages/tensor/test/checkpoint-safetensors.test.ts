import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ByteSource,
  bitsOf,
  bytesOf,
  CheckpointError,
  type Dtype,
  dtypes,
  elementsOf,
  fromBytes,
  openSafetensors,
  type TensorBytes,
  toSafetensors,
} from '../src/checkpoint/index.ts'

/** a file of this header and this much data */
const fileOf = (header: string | Uint8Array, data: number | Uint8Array = 0, length?: bigint): Uint8Array => {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header
  const body = typeof data === 'number' ? new Uint8Array(data) : data
  const file = new Uint8Array(8 + text.length + body.length)
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(text.length), true)
  file.set(text, 8)
  file.set(body, 8 + text.length)
  return file
}
const open = (file: Uint8Array) => openSafetensors(fromBytes(file, 'm.safetensors'))
const info = (dtype: string, shape: unknown, from: unknown, to: unknown, more = ''): string =>
  `{"dtype":"${dtype}","shape":${JSON.stringify(shape)},"data_offsets":[${from},${to}]${more}}`

/** what is read, and closed */
const counted = (source: ByteSource) => {
  const log: [number, number][] = []
  const state = { closed: 0 }
  const read: ByteSource['read'] = (start, end) => {
    log.push([start, end])
    return source.read(start, end)
  }
  return { log, state, source: { ...source, read, close: () => void state.closed++ } }
}

const shapes = fc.array(fc.nat({ max: 4 }), { maxLength: 4 })
const tensor = fc
  .record({ dtype: fc.constantFrom(...dtypes), shape: shapes, seed: fc.nat({ max: 255 }) })
  .map(({ dtype, shape, seed }): TensorBytes => {
    // packed dtypes need whole bytes: a last side of 4 makes them so
    const sides = bitsOf(dtype) % 8 === 0 ? shape : [...shape, 4]
    const size = bytesOf(dtype, elementsOf(sides)!)!
    return { dtype, shape: sides, data: Uint8Array.from({ length: size }, (_, i) => (i * 31 + seed) % 251) }
  })
const names = fc.oneof(
  fc.string(),
  fc.string({ unit: 'grapheme' }),
  fc.constantFrom('__proto__', 'constructor', 'toString', '0', '10', 'é', '😀', '￮', '"\\\n\u0001'),
)
const records = fc
  .array(fc.tuple(names, tensor), { maxLength: 8 })
  .map((pairs) => Object.fromEntries(pairs.filter(([name]) => name !== '__metadata__' && !/\p{Surrogate}/u.test(name))))
const metadata = fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 })

describe('round trip', () => {
  it('gives back names, dtypes, shapes, bytes and metadata', () =>
    fc.assert(
      fc.asyncProperty(records, metadata, async (record, notes) => {
        const file = toSafetensors(record, notes)
        const headerLength = Number(new DataView(file.buffer).getBigUint64(0, true))
        expect(headerLength % 8).toBe(0)
        const read = await open(file)
        expect(Object.entries(read.metadata).sort()).toEqual(Object.entries(notes).sort())
        expect([...read.names].sort()).toEqual(Object.keys(record).sort())
        for (const [name, { dtype, shape, data }] of Object.entries(record)) {
          expect(read.entry(name)).toEqual({ dtype, shape, bytes: data.byteLength })
          expect(await read.read(name)).toEqual({ dtype, shape, data })
        }
      }),
      { numRuns: 150 },
    ))
  it('a tensor called __proto__ is one like any other', async () => {
    const data = Uint8Array.of(7)
    const file = await open(fileOf(`{"__proto__":${info('U8', [1], 0, 1)},"__metadata__":{"__proto__":"x"}}`, data))
    expect(file.names).toEqual(['__proto__'])
    expect([...(await file.ints('__proto__'))]).toEqual([7])
    expect(Object.keys(file.metadata)).toEqual(['__proto__'])
    expect(({} as Record<string, unknown>).dtype).toBeUndefined()
    expect(file.has('constructor')).toBe(false)
    expect(() => file.entry('constructor')).toThrow(CheckpointError)
  })
})

describe('against the reference library', () => {
  const bytes = readFileSync(new URL('fixtures/reference.safetensors', import.meta.url))
  it('reads its file and writes the same bytes', async () => {
    const file = await openSafetensors(fromBytes(bytes))
    expect(new Set(file.names.map((name) => file.entry(name).dtype)).size).toBe(20)
    const record: [string, TensorBytes][] = []
    for (const name of [...file.names].reverse()) record.push([name, await file.read(name)])
    expect(Buffer.from(toSafetensors(Object.fromEntries(record), file.metadata)).equals(bytes)).toBe(true)
  })
  it('reads its numbers', async () => {
    const file = await openSafetensors(fromBytes(bytes))
    for (const dtype of ['f64', 'f32', 'f16', 'bf16', 'f8_e4m3', 'f8_e5m2', 'f8_e8m0', 'f8_e4m3fnuz', 'f8_e5m2fnuz']) {
      expect([...(await file.floats(`${dtype}.b`))], dtype).toEqual([1, 1, 2, 1, 1, 2])
      expect([...(await file.floats(`${dtype}.a`))], dtype).toEqual([1])
      expect(file.entry(`${dtype}.zero`)).toMatchObject({ shape: [2, 0], bytes: 0 })
    }
    for (const dtype of ['u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'u64', 'i64'])
      expect([...(await file.ints(`${dtype}.b`))], dtype).toEqual([1, 1, 2, 1, 1, 2])
    expect([...(await file.ints('bool.b'))]).toEqual([0, 1, 1, 0, 1, 1])
    expect([...(await file.floats('f4'))]).toEqual([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    expect(file.metadata).toEqual(Object.assign(Object.create(null), { 'made by': 'safetensors é "\n' }))
  })
})

describe('laziness', () => {
  const record = {
    big: { dtype: 'U8', shape: [1000], data: new Uint8Array(1000).fill(1) },
    small: { dtype: 'F32', shape: [2], data: new Uint8Array(Float32Array.of(1, 2).buffer) },
  } as const
  it('opening reads the header alone, and a tensor its own bytes', async () => {
    const file = toSafetensors(record)
    const { log, source, state } = counted(fromBytes(file))
    const read = await openSafetensors(source)
    const first = file.length - 1008
    expect(log).toEqual([
      [0, 8],
      [8, first],
    ])
    expect(read.entry('big').bytes).toBe(1000)
    expect([...(await read.floats('small'))]).toEqual([1, 2])
    expect(log.slice(2)).toEqual([[first, first + 8]])
    await read.close()
    expect(state.closed).toBe(1)
  })
  it('asks for no more than 8 bytes of a file whose header length lies, and closes it', async () => {
    for (const length of [10n ** 18n, 2n ** 64n - 1n, 100_000_001n, 99_999_999n]) {
      const { log, source, state } = counted(fromBytes(fileOf('{}', 0, length), 'm'))
      await expect(openSafetensors(source)).rejects.toThrow(CheckpointError)
      expect(log).toEqual([[0, 8]])
      expect(state.closed).toBe(1)
    }
  })
  it('a source that fails or gives too little is an error of the tensor', async () => {
    const inner = fromBytes(toSafetensors(record), 'm')
    let mode = 'good'
    const read: ByteSource['read'] = async (start, end) => {
      if (mode === 'fail') throw new RangeError('Array buffer allocation failed')
      return inner.read(start, mode === 'short' ? end - 1 : end)
    }
    const file = await openSafetensors({ ...inner, read })
    mode = 'fail'
    await expect(file.read('big')).rejects.toThrow('m: tensor "big": cannot be read: Array buffer allocation failed')
    mode = 'short'
    await expect(file.read('big')).rejects.toThrow('m: tensor "big": 999 of 1000 bytes came')
  })
  it('a tensor that is not there is named, with others that are', async () => {
    const file = await open(toSafetensors(record))
    await expect(file.read('layer.small')).rejects.toThrow(
      'm.safetensors: tensor "layer.small": not in this checkpoint; it has 2 tensors, such as "small", "big"',
    )
  })
})

describe('malformed files', () => {
  const u8 = (from: number, to: number): string => info('U8', [to - from], from, to)
  const deep = '['.repeat(100)
  const cases: [string, Uint8Array, string][] = [
    ['empty', new Uint8Array(), 'only 0 bytes'],
    ['seven bytes', new Uint8Array(7), 'only 7 bytes'],
    ['length over the limit', fileOf('{}', 0, 100_000_001n), 'header length 100000001 over the limit of 100000000'],
    ['length past the end', fileOf('{}', 0, 3n), 'header length 3 runs past the end of the file of 10 bytes'],
    ['zero length', new Uint8Array(8), 'header begins with "", not with {'],
    ['a pickle', new Uint8Array([0x50, 0x4b, 3, 4, 0, 0, 0, 8, 0]), 'PyTorch pickle: convert it to safetensors'],
    ['a git-lfs pointer', new TextEncoder().encode('version https://git-lfs'), 'Git LFS pointer: run `git lfs pull`'],
    ['an HTML page', new TextEncoder().encode('<!doctype html>'), 'an HTML page: check the address'],
    ['bad UTF-8', fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), 'header is not UTF-8'],
    ['a byte order mark', fileOf('\ufeff{}'), 'not with {'],
    ['leading space', fileOf(' {}'), 'header begins with " {}", not with {'],
    ['bad JSON', fileOf('{"a":}'), 'header is not valid JSON'],
    ['cut JSON', fileOf(`{"a":${u8(0, 1)}`, 1), 'header is not valid JSON'],
    ['zeros after', fileOf('{}\0\0'), 'header is not valid JSON'],
    ['nesting', fileOf(`{"a":${deep}`), 'nested deeper than 64'],
    ['an unclosed string', fileOf('{"a\\'), 'header is not valid JSON'],
    ['a name twice', fileOf(`{"a":${u8(0, 1)},"a":${u8(0, 1)}}`, 1), 'tensor "a": occurs twice in the header'],
    ['a name twice, escaped', fileOf(`{"a":${u8(0, 1)},"\\u0061":${u8(0, 1)}}`, 1), 'tensor "a": occurs twice'],
    ['two shapes', fileOf(`{"a":${info('U8', [1], 0, 1, ',"shape":[1]')}}`, 1), 'tensor "shape": occurs twice'],
    ['two metadata', fileOf('{"__metadata__":{},"__metadata__":{}}'), 'tensor "__metadata__": occurs twice'],
    ['metadata a list', fileOf('{"__metadata__":[]}'), '__metadata__ is [], not an object'],
    ['metadata of numbers', fileOf('{"__metadata__":{"n":1}}'), '__metadata__ "n" is 1, not a string'],
    ['tensor null', fileOf('{"a":null}'), 'tensor "a": described by null, not an object'],
    ['tensor a list', fileOf('{"a":[]}'), 'tensor "a": described by [], not an object'],
    ['no dtype', fileOf('{"a":{}}'), 'tensor "a": unknown dtype undefined; known are BOOL F4'],
    ['unknown dtype', fileOf(`{"a":${info('Q9', [1], 0, 1)}}`, 1), 'unknown dtype "Q9"; known are BOOL F4'],
    ['dtype of Object', fileOf(`{"a":${info('toString', [1], 0, 1)}}`, 1), 'unknown dtype "toString"'],
    ['no shape', fileOf('{"a":{"dtype":"U8","data_offsets":[0,0]}}'), 'shape is undefined, not a list'],
    ['shape a number', fileOf(`{"a":${info('U8', 1, 0, 1)}}`, 1), 'shape is 1, not a list'],
    ['negative side', fileOf(`{"a":${info('U8', [-1], 0, 1)}}`, 1), 'has the side -1, not a non-negative integer'],
    ['half a side', fileOf(`{"a":${info('U8', [1.5], 0, 1)}}`, 1), 'has the side 1.5'],
    ['a string side', fileOf(`{"a":${info('U8', ['1'], 0, 1)}}`, 1), 'has the side "1"'],
    ['product overflow', fileOf(`{"a":${info('U8', [2 ** 40, 2 ** 40], 0, 1)}}`, 1), 'more than 2^53 elements'],
    ['overflow to the right size', fileOf(`{"a":${info('U8', [2 ** 52, 2 ** 12 + 1], 0, 1)}}`, 1), 'more than 2^53'],
    ['bit overflow', fileOf(`{"a":${info('F64', [2 ** 52], 0, 1)}}`, 1), 'overflow 2^53 bits'],
    ['half a byte', fileOf(`{"a":${info('F4', [3], 0, 2)}}`, 2), '3 elements of F4'],
    ['no offsets', fileOf('{"a":{"dtype":"U8","shape":[0]}}'), 'data_offsets are undefined'],
    ['one offset', fileOf('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}}'), 'data_offsets are [0]'],
    ['negative offset', fileOf(`{"a":${info('U8', [1], -1, 0)}}`), 'data_offsets are [-1,0]'],
    ['huge offsets', fileOf(`{"a":${info('U8', [1], 2 ** 60, 2 ** 60)}}`), 'not two non-negative integers'],
    ['backwards', fileOf(`{"a":${info('U8', [1], 1, 0)}}`, 1), 'run backwards'],
    ['past the end', fileOf(`{"a":${u8(0, 9)}}`, 8), 'data_offsets [0,9] pass the end of the 8 bytes of data'],
    ['a size that is not the shape', fileOf(`{"a":${info('F32', [2], 0, 4)}}`, 4), 'hold 4 bytes, F32 [2] needs 8'],
    ['overlap', fileOf(`{"a":${u8(0, 4)},"b":${u8(2, 6)}}`, 6), 'tensor "b": bytes overlap those of "a" by 2'],
    ['the same bytes twice', fileOf(`{"a":${u8(0, 4)},"b":${u8(0, 4)}}`, 4), 'bytes overlap those of "a" by 4'],
    ['empty inside another', fileOf(`{"a":${u8(0, 4)},"b":${u8(2, 2)}}`, 4), 'tensor "b": bytes overlap'],
    ['a hole', fileOf(`{"a":${u8(0, 4)},"b":${u8(5, 6)}}`, 6), 'tensor "b": a hole of 1 bytes before it'],
    ['a hole at the start', fileOf(`{"a":${u8(1, 4)}}`, 4), 'tensor "a": a hole of 1 bytes before it'],
    ['bytes after the last', fileOf(`{"a":${u8(0, 4)}}`, 6), '2 bytes after the last tensor belong to none'],
    ['half a surrogate pair', fileOf(`{"\\ud800":${u8(0, 1)}}`, 1), 'half a surrogate pair'],
  ]
  it.each(cases)('%s', async (_, file, message) => {
    const error = await open(file).then(
      () => undefined,
      (error) => error,
    )
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toContain(message)
    expect(error.message).toMatch(/^m\.safetensors: /)
    expect(error.file).toBe('m.safetensors')
  })
  it('a hostile name does not flood the message', async () => {
    const error = await open(fileOf(`{"${'a'.repeat(100_000)}":null}`)).catch((error) => error)
    expect(error.message.length).toBeLessThan(400)
  })
  it('what the format allows is accepted', async () => {
    expect((await open(fileOf('{}'))).names).toEqual([])
    expect((await open(fileOf('{}      '))).names).toEqual([])
    expect((await open(fileOf('{"__metadata__":null}'))).metadata).toEqual(Object.create(null))
    const unsorted = await open(
      fileOf(`{"b":${u8(1, 2)},"z":${u8(2, 2)},"a":${info('U8', [1], 0, 1, ',"more":1')}}`, 2),
    )
    expect(unsorted.names).toEqual(['a', 'b', 'z'])
  })
})

describe('fuzz', () => {
  const valid = toSafetensors(
    {
      a: { dtype: 'F32', shape: [2, 2], data: new Uint8Array(16) },
      b: { dtype: 'I64', shape: [1], data: new Uint8Array(8) },
      'c.weight': { dtype: 'F16', shape: [3], data: new Uint8Array(6) },
      empty: { dtype: 'BOOL', shape: [0], data: new Uint8Array() },
    },
    { format: 'pt' },
  )
  /** opens and is consistent, or throws a CheckpointError: nothing else */
  const survives = async (file: Uint8Array): Promise<boolean> => {
    let read: Awaited<ReturnType<typeof open>>
    try {
      read = await open(file)
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error
      return false
    }
    let total = 0
    for (const name of read.names) {
      const { dtype, shape, data } = await read.read(name)
      expect(data.byteLength).toBe(bytesOf(dtype, elementsOf(shape)!))
      total += data.byteLength
    }
    const header = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true))
    expect(8 + header + total).toBe(file.byteLength)
    return true
  }
  const at = fc.nat({ max: valid.length - 1 })
  it('bytes changed, removed, inserted, cut', async () => {
    let opened = 0
    let refused = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            fc.record({ kind: fc.constant('set'), at, value: fc.nat({ max: 255 }) }),
            fc.record({
              kind: fc.constant('text'),
              at,
              value: fc.constantFrom(...Buffer.from('{}[]",:0123456789-e.\\ ')),
            }),
            fc.record({ kind: fc.constant('drop'), at, value: fc.nat({ max: 20 }) }),
            fc.record({ kind: fc.constant('insert'), at, value: fc.nat({ max: 255 }) }),
            fc.record({ kind: fc.constant('cut'), at, value: fc.constant(0) }),
          ),
          { minLength: 1, maxLength: 4 },
        ),
        fc.boolean(),
        async (changes, fixLength) => {
          let file = [...valid]
          for (const { kind, at, value } of changes)
            if (kind === 'set' || kind === 'text') file[at % file.length || 0] = value
            else if (kind === 'drop') file.splice(at, value)
            else if (kind === 'insert') file.splice(at, 0, value)
            else file = file.slice(0, at)
          const bytes = Uint8Array.from(file)
          // reach the checks behind the length as well
          if (fixLength && bytes.length >= 8 + 24)
            new DataView(bytes.buffer).setBigUint64(0, BigInt(Math.max(0, bytes.length - 8 - 30)), true)
          if (await survives(bytes)) opened++
          else refused++
        },
      ),
      { numRuns: 3000 },
    )
    expect(opened).toBeGreaterThan(50)
    expect(refused).toBeGreaterThan(1000)
  })
  it('random bytes', () =>
    fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        await survives(bytes)
      }),
      { numRuns: 1000 },
    ))
  it('random JSON', () =>
    fc.assert(
      fc.asyncProperty(fc.json(), fc.nat({ max: 16 }), async (json, size) => {
        await survives(fileOf(json, size))
      }),
      { numRuns: 1000 },
    ))
  it('headers of the right form with wrong numbers', async () => {
    const side = fc.oneof(fc.nat({ max: 4 }), fc.constantFrom(-1, 0.5, 2 ** 31, 2 ** 53, 1e300))
    const entry = fc.record({
      dtype: fc.constantFrom<Dtype | 'X'>('U8', 'F16', 'F4', 'X'),
      shape: fc.array(side, { maxLength: 2 }),
      data_offsets: fc.array(side, { minLength: 2, maxLength: 2 }),
    })
    let opened = 0
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.string({ maxLength: 2 }), entry, { maxKeys: 3 }),
        fc.nat({ max: 8 }),
        async (h, size) => {
          if (await survives(fileOf(JSON.stringify(h), size))) opened++
        },
      ),
      { numRuns: 3000 },
    )
    expect(opened).toBeGreaterThan(20)
  })
  it('a long hostile header is refused at once', async () => {
    const start = performance.now()
    await expect(open(fileOf(`{"${'\\\\'.repeat(500_000)}`))).rejects.toThrow(CheckpointError)
    await expect(open(fileOf(`${'{"a":'.repeat(200_000)}`))).rejects.toThrow('nested deeper')
    await expect(
      open(fileOf(`{"a":{"dtype":"U8","shape":[${'1,'.repeat(300_000)}1],"data_offsets":[0,2]}}`, 2)),
    ).rejects.toThrow('needs 1')
    expect(performance.now() - start).toBeLessThan(3000)
  })
})
