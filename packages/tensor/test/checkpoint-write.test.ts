import { mkdir, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { fileSink, fromFile, nodeFolder, saveCheckpoint, saveSafetensors } from '../src/checkpoint/file.ts'
import {
  blobFolder,
  blobSink,
  CheckpointError,
  openCheckpoint,
  openSafetensors,
  planShards,
  type Sink,
  type TensorSource,
  toSafetensors,
  writeSafetensors,
  writeSharded,
} from '../src/checkpoint/index.ts'

const root = await mkdtemp(join(tmpdir(), 'weft-checkpoint-'))
let folder = ''
let n = 0
beforeEach(async () => {
  folder = join(root, String(n++))
  await mkdir(folder)
})
afterAll(() => rm(root, { recursive: true }))

const u8 = (name: string, size: number, value = size): TensorSource => ({
  name,
  dtype: 'U8',
  shape: [size],
  data: new Uint8Array(size).fill(value),
})
const memory = (): Sink & { chunks: Uint8Array[]; log: string[] } => {
  const chunks: Uint8Array[] = []
  const log: string[] = []
  return {
    chunks,
    log,
    write: (chunk) => {
      chunks.push(chunk.slice())
      log.push(`write ${chunk.length}`)
    },
    close: () => void log.push('close'),
    abort: () => void log.push('abort'),
  }
}

describe('writeSafetensors', () => {
  it('writes what toSafetensors writes, from any kind of producer', async () => {
    const data = Uint8Array.from({ length: 3_000_000 }, (_, i) => i % 251)
    const pieces = async function* (): AsyncGenerator<Uint8Array> {
      const reused = new Uint8Array(70_000)
      for (let at = 0; at < data.length; at += reused.length) {
        const part = reused.subarray(0, Math.min(reused.length, data.length - at))
        part.set(data.subarray(at, at + part.length))
        yield part
      }
    }
    const shape = [data.length]
    const want = Buffer.from(toSafetensors({ x: { dtype: 'U8', shape, data } }, { k: 'v' }))
    for (const source of [
      data,
      () => data,
      async () => data,
      pieces(),
      pieces,
      [data.subarray(0, 5), data.subarray(5)],
    ]) {
      const sink = memory()
      await writeSafetensors(sink, [{ name: 'x', dtype: 'U8', shape, data: source }], { k: 'v' })
      expect(Buffer.concat(sink.chunks).equals(want)).toBe(true)
      expect(sink.log.at(-1)).toBe('close')
    }
  })
  it('asks for one tensor after the other, after the header is written', async () => {
    const sink = memory()
    const tensor = (name: string): TensorSource => ({
      name,
      dtype: 'U8',
      shape: [2 ** 20],
      data: () => {
        sink.log.push(`make ${name}`)
        return new Uint8Array(2 ** 20)
      },
    })
    await writeSafetensors(sink, ['c', 'a', 'b'].map(tensor))
    const header = sink.chunks[0]!.length
    const size = `write ${2 ** 20}`
    expect(sink.log).toEqual([`write ${header}`, 'make a', size, 'make b', size, 'make c', size, 'close'])
    expect(header % 8).toBe(0)
  })
  it('asks in the order given where the sink takes pieces anywhere, and writes the same bytes', async () => {
    const anywhere = (): Sink & { bytes(): Buffer } => {
      let whole = Buffer.alloc(0)
      return {
        write: () => expect.fail('written by its places alone'),
        writeAt: async (at, chunk) => {
          const bytes = chunk.slice()
          await Promise.resolve()
          const grown = Buffer.alloc(Math.max(whole.length, at + bytes.length))
          grown.set(whole)
          grown.set(bytes, at)
          whole = grown
        },
        close: () => {},
        bytes: () => whole,
      }
    }
    const kind = fc.record({
      dtype: fc.constantFrom('F32' as const, 'U8' as const, 'F16' as const),
      elements: fc.oneof(fc.nat({ max: 9 }), fc.constantFrom(70_000, 2 ** 18)),
      pieces: fc.integer({ min: 1, max: 4 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(kind, { maxLength: 9 }), async (kinds) => {
        const asked: string[] = []
        const list = kinds.map(({ dtype, elements, pieces }, i): TensorSource => {
          const bytes = elements * { F32: 4, U8: 1, F16: 2 }[dtype]
          const all = Uint8Array.from({ length: bytes }, (_, k) => k * (i + 3))
          return {
            ...{ name: `t${i}`, dtype, shape: [elements] },
            data: function* () {
              asked.push(`t${i}`)
              const reused = new Uint8Array(Math.ceil(bytes / pieces) || 1)
              for (let at = 0; at < bytes; at += reused.length) {
                const part = reused.subarray(0, Math.min(reused.length, bytes - at))
                part.set(all.subarray(at, at + part.length))
                yield part
              }
            },
          }
        })
        const [sequential, placed] = [memory(), anywhere()]
        await writeSafetensors(sequential, list)
        asked.length = 0
        await writeSafetensors(placed, list)
        expect(asked).toEqual(list.map((t) => t.name))
        expect(placed.bytes().equals(Buffer.concat(sequential.chunks))).toBe(true)
        const blobs = blobSink()
        await writeSafetensors(blobs, list)
        expect(placed.bytes().equals(Buffer.from(await blobs.blob().arrayBuffer()))).toBe(true)
      }),
      { numRuns: 25, seed: 11 },
    )
  })
  it.each<[string, readonly TensorSource[], string]>([
    [
      'too little data',
      [{ ...u8('x', 4), data: new Uint8Array(3) }],
      'tensor "x": 3 bytes of data for U8 [4], which needs 4',
    ],
    [
      'too much data',
      [{ ...u8('x', 4), data: [new Uint8Array(3), new Uint8Array(9)] }],
      '12 or more bytes of data for U8 [4]',
    ],
    ['a name twice', [u8('x', 1), u8('x', 1)], 'tensor "x": given twice'],
    ['the name __metadata__', [u8('__metadata__', 1)], 'cannot be the name of a tensor'],
    ['half a surrogate pair', [u8('\ud83d', 1)], 'cannot be the name of a tensor'],
    ['no dtype', [{ ...u8('x', 1), dtype: 'F7' as 'F16' }], 'unknown dtype "F7"'],
    ['no shape', [{ ...u8('x', 1), shape: [-1] }], 'U8 [-1] cannot be stored'],
    ['half a byte', [{ ...u8('x', 1), dtype: 'F4', shape: [3] }], 'F4 [3] cannot be stored'],
  ])('%s is refused and the sink aborted', async (_, tensors, message) => {
    const sink = memory()
    const error = await writeSafetensors(sink, tensors).catch((error) => error)
    expect(error).toBeInstanceOf(CheckpointError)
    expect(error.message).toContain(message)
    expect(sink.log.at(-1)).toBe('abort')
    expect(sink.log).not.toContain('close')
  })
  it('metadata that is no text is refused', async () => {
    const metadata = { n: 1 } as unknown as Record<string, string>
    await expect(writeSafetensors(memory(), [], metadata)).rejects.toThrow(
      'metadata "n" is 1; the format holds only text',
    )
    expect(() => toSafetensors({ x: { dtype: 'F32', shape: [], data: new Uint8Array(5) } })).toThrow(
      '5 bytes of data for F32 []',
    )
  })
})

describe('files', () => {
  it('round-trip, and stay open until closed', async () => {
    const path = join(folder, 'm.safetensors')
    await saveSafetensors(path, [u8('a', 5), u8('b', 3)], { format: 'pt' })
    const file = await openSafetensors(await fromFile(path))
    expect(file.metadata.format).toBe('pt')
    expect([...(await file.ints('b'))]).toEqual([3, 3, 3])
    await file.close()
    await file.close()
    await expect(file.read('b')).rejects.toThrow('already closed')
    expect(await readdir(folder)).toEqual(['m.safetensors'])
  })
  it('missing, a folder, cut while open', async () => {
    await expect(fromFile(join(folder, 'no'))).rejects.toThrow(/no: no such file or folder; check the path$/)
    await expect(fromFile(folder)).rejects.toThrow('it is a folder')
    await expect(fileSink(join(folder, 'no', 'x'))).rejects.toThrow('no such file or folder')
    const path = join(folder, 'm')
    await saveSafetensors(path, [u8('a', 500)])
    const file = await openSafetensors(await fromFile(path))
    await truncate(path, 100)
    await expect(file.read('a')).rejects.toThrow('ends at byte 100')
    await file.close()
    await expect(fromFile(path).then(openSafetensors)).rejects.toThrow('truncated or damaged')
  })
  const broken: Record<string, TensorSource> = {
    'a producer that throws': { ...u8('z', 10), data: () => Promise.reject(new Error('device lost')) },
    'a stream that throws half-way': {
      ...u8('z', 10),
      data: async function* () {
        yield new Uint8Array(5)
        throw new Error('device lost')
      },
    },
    'too little data': { ...u8('z', 10), data: new Uint8Array(1) },
  }
  it.each(Object.entries(broken))('%s leaves the old file and no other', async (_, bad) => {
    const path = join(folder, 'm.safetensors')
    const big = u8('a', 3 << 20)
    await expect(saveSafetensors(path, [big, bad])).rejects.toThrow(/device lost|needs 10/)
    expect(await readdir(folder)).toEqual([])
    await saveSafetensors(path, [u8('old', 7)])
    const old = await readFile(path)
    await expect(saveSafetensors(path, [big, bad])).rejects.toThrow(/device lost|needs 10/)
    expect(await readdir(folder)).toEqual(['m.safetensors'])
    expect(old.equals(await readFile(path))).toBe(true)
  })
  it('the old file is there until the new one is whole', async () => {
    const path = join(folder, 'm.safetensors')
    await saveSafetensors(path, [u8('old', 7)])
    const old = await readFile(path)
    const seen: boolean[] = []
    const watched: TensorSource = {
      ...u8('z', 10),
      data: async () => {
        seen.push(old.equals(await readFile(path)))
        return new Uint8Array(10)
      },
    }
    await saveSafetensors(path, [u8('a', 3 << 20), watched])
    expect(seen).toEqual([true])
    expect((await readFile(path)).length).toBeGreaterThan(3 << 20)
  })
  it('more than the disk is told to take at a time is whole', async () => {
    const path = join(folder, 'm.safetensors')
    const size = 20 << 20
    await saveSafetensors(path, [u8('b', size, 2), u8('a', size, 1), u8('c', size, 3)])
    const file = await openSafetensors(await fromFile(path))
    for (const [name, value] of [
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ] as const)
      expect((await file.read(name)).data.every((x) => x === value)).toBe(true)
    await file.close()
    expect(await readdir(folder)).toEqual(['m.safetensors'])
  })
  it('a name that is a folder is refused, without leftovers', async () => {
    await mkdir(join(folder, 'm'))
    await expect(saveSafetensors(join(folder, 'm'), [u8('a', 1)])).rejects.toThrow(CheckpointError)
    expect(await readdir(folder)).toEqual(['m'])
  })
})

describe('shards', () => {
  const tensors = [u8('a', 40), u8('b', 50), u8('c', 20), u8('huge', 300), u8('d', 1)]
  it('planShards fills files in order, whatever the sizes', () => {
    expect(
      planShards(tensors, { maxShardBytes: 100 }).map(({ tensors }) => tensors.map(({ name }) => name).join()),
    ).toEqual(['a,b', 'c', 'huge', 'd'])
    expect(planShards(tensors).map(({ file }) => file)).toEqual(['model.safetensors'])
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 60 })), fc.integer({ min: 1, max: 100 }), (sizes, maxShardBytes) => {
        const list = sizes.map((size, i) => u8(`t${i}`, size))
        const shards = planShards(list, { maxShardBytes })
        expect(shards.flatMap(({ tensors }) => tensors)).toEqual(list)
        for (const { tensors } of shards) {
          const held = tensors.map(({ shape }) => shape[0]!).filter((size) => size > 0)
          if (held.length > 1) expect(held.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(maxShardBytes)
        }
      }),
    )
  })
  it('are written, read lazily, and replaced by what comes next', async () => {
    const files = await saveCheckpoint(folder, tensors, { maxShardBytes: 100, metadata: { format: 'pt' } })
    expect(files).toEqual(
      [1, 2, 3, 4].map((i) => `model-0000${i}-of-00004.safetensors`).concat('model.safetensors.index.json'),
    )
    expect((await readdir(folder)).sort()).toEqual([...files].sort())
    const index = JSON.parse(await readFile(join(folder, 'model.safetensors.index.json'), 'utf8'))
    expect(index.metadata.total_size).toBe(411)
    expect(index.weight_map.huge).toBe('model-00003-of-00004.safetensors')
    const sharded = await openCheckpoint(nodeFolder(folder))
    expect(sharded.metadata.format).toBe('pt')
    expect([...sharded.names].sort()).toEqual(['a', 'b', 'c', 'd', 'huge'])
    for (const { name, shape, data } of tensors) {
      expect(sharded.entry(name)).toEqual({ dtype: 'U8', shape, bytes: shape[0] })
      expect((await sharded.read(name)).data).toEqual(data)
    }
    await expect(sharded.read('e')).rejects.toThrow(`${folder}: tensor "e": not in this checkpoint; it has 5 tensors`)
    await sharded.close()

    await writeFile(join(folder, 'config.json'), '{}')
    await writeFile(join(folder, 'model-other.safetensors'), '')
    expect(await saveCheckpoint(folder, tensors.slice(0, 1))).toEqual(['model.safetensors'])
    expect((await readdir(folder)).sort()).toEqual(['config.json', 'model-other.safetensors', 'model.safetensors'])
    await saveCheckpoint(folder, tensors, { maxShardBytes: 300 })
    const again = await openCheckpoint(nodeFolder(folder))
    expect(again.names).toHaveLength(5)
    await again.close()
  })
  it('a failure in the last shard leaves the old checkpoint as it was', async () => {
    await saveCheckpoint(folder, tensors, { maxShardBytes: 100 })
    const before = await Promise.all(
      (await readdir(folder)).map(async (f) => [f, await readFile(join(folder, f))] as const),
    )
    const bad: TensorSource = { ...u8('d', 1), data: () => Promise.reject(new Error('no space')) }
    const changed = tensors.map((t) => (t.name === 'd' ? bad : u8(t.name, t.shape[0]!, 0)))
    await expect(saveCheckpoint(folder, changed, { maxShardBytes: 100 })).rejects.toThrow('no space')
    expect(
      await Promise.all((await readdir(folder)).map(async (f) => [f, await readFile(join(folder, f))] as const)),
    ).toEqual(before)
  })
  it('go to any sink', async () => {
    const made = new Map<string, ReturnType<typeof memory>>()
    const create = (file: string): Sink => {
      const sink = memory()
      made.set(file, sink)
      return sink
    }
    expect(await writeSharded(create, tensors, { maxShardBytes: 1e9, stem: 'adapter_model' })).toEqual([
      'adapter_model.safetensors',
    ])
    expect(made.get('adapter_model.safetensors')!.log.at(-1)).toBe('close')
  })
})

describe('openCheckpoint', () => {
  const index = (map: unknown): string => JSON.stringify({ metadata: {}, weight_map: map })
  const put = (name: string, text: string | Uint8Array): Promise<void> => writeFile(join(folder, name), text)
  const shard = toSafetensors({ a: { dtype: 'U8', shape: [1], data: Uint8Array.of(9) } })
  const message = (): Promise<string> =>
    openCheckpoint(nodeFolder(folder)).then(
      () => 'opened',
      (error) => (error instanceof CheckpointError ? error.message : `another error: ${error}`),
    )
  it('reads the shards that the index names, and leaves out other tensors in them', async () => {
    await put(
      'x.safetensors',
      toSafetensors({
        a: { dtype: 'U8', shape: [1], data: Uint8Array.of(9) },
        extra: { dtype: 'U8', shape: [], data: Uint8Array.of(1) },
      }),
    )
    await put('model.safetensors.index.json', index({ a: 'x.safetensors' }))
    const file = await openCheckpoint(nodeFolder(folder))
    expect(file.names).toEqual(['a'])
    expect(file.has('extra')).toBe(false)
    await expect(file.read('extra')).rejects.toThrow('not in this checkpoint')
    await file.close()
  })
  it.each<[string, string, string]>([
    ['bad JSON', '{"weight_map":', 'not valid JSON'],
    ['no map', '{}', 'weight_map is undefined, not an object'],
    ['a list', index([]), 'weight_map is [], not an object'],
    ['a number', index({ a: 3 }), 'tensor "a": its shard is 3, not a file name'],
    [
      'a name twice',
      '{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}',
      'tensor "a": occurs twice in the index',
    ],
    ['a shard outside', index({ a: '../x.safetensors' }), '"../x.safetensors" leaves the folder'],
    ['a shard outside, deeper', index({ a: 'y/../../x.safetensors' }), 'leaves the folder'],
    ['an absolute shard', index({ a: '/etc/passwd' }), '"/etc/passwd" leaves the folder'],
    ['a shard on a drive', index({ a: 'C:x.safetensors' }), 'leaves the folder'],
    ['a backslash', index({ a: '..\\x.safetensors' }), 'leaves the folder'],
    ['an empty shard', index({ a: '' }), 'leaves the folder'],
    [
      'a missing shard',
      index({ a: 'y.safetensors' }),
      'the shard "y.safetensors" that model.safetensors.index.json names is missing',
    ],
    ['a missing tensor', index({ b: 'x.safetensors' }), 'x.safetensors: tensor "b": not in the shard that'],
    ['a missing __proto__', '{"weight_map":{"__proto__":"x.safetensors"}}', 'tensor "__proto__": not in the shard'],
  ])('an index with %s is refused', async (_, text, found) => {
    await put('x.safetensors', shard)
    await put('model.safetensors.index.json', text)
    expect(await message()).toContain(found)
  })
  it('a shard outside is refused whatever the folder would give', async () => {
    const blob = (content: string | Uint8Array): Blob => new Blob([content as BlobPart])
    const picked = new Map([
      ['model.safetensors.index.json', blob(index({ a: '../x.safetensors' }))],
      ['../x.safetensors', blob(shard)],
    ])
    await expect(openCheckpoint(blobFolder(picked))).rejects.toThrow('leaves the folder')
  })
  it('says what is there instead', async () => {
    expect(await message()).toBe(
      `${folder}: neither model.safetensors nor model.safetensors.index.json; check the folder`,
    )
    await put('config.json', '{}')
    expect(await message()).toContain('there are config.json')
    await put('adapter_model.safetensors', shard)
    expect(await message()).toContain('pass stem "adapter_model"')
    await put('pytorch_model.bin', '')
    expect(await message()).toContain('only pytorch_model.bin; convert it to safetensors')
    const adapter = await openCheckpoint(nodeFolder(folder), { stem: 'adapter_model' })
    expect([...(await adapter.ints('a'))]).toEqual([9])
    await adapter.close()
  })
  it('follows links, as in the Hugging Face cache, and nothing else leads out', async () => {
    await mkdir(join(folder, 'snapshot'))
    await put('blob', shard)
    await symlink('../blob', join(folder, 'snapshot', 'model.safetensors'))
    const snapshot = nodeFolder(join(folder, 'snapshot'))
    const file = await openCheckpoint(snapshot)
    expect([...(await file.ints('a'))]).toEqual([9])
    await file.close()
    await expect(snapshot.open('../blob')).rejects.toThrow('leaves the folder')
    await expect(snapshot.open('none')).rejects.toThrow('no file "none"; there are model.safetensors')
    expect(await snapshot.has('model.safetensors/x')).toBe(false)
  })
})
