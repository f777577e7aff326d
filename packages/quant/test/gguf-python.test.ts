import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { loadTokenizer } from '@weftjs/model'
import { tensor, wasm } from '@weftjs/tensor'
import { blobSink, fromBytes } from '@weftjs/tensor/checkpoint'
import { fixtures } from '@weftjs/testkit/fixtures'
import { beforeAll, describe, expect, it } from 'vitest'
import type { GgufField } from '../src/gguf/field.ts'
import { ggufFolder } from '../src/gguf/folder.ts'
import { openGguf } from '../src/gguf/reader.ts'
import type { GgmlType } from '../src/gguf/types.ts'
import { type GgufFile, writeGguf } from '../src/gguf/writer.ts'
import { gguf } from '../src/index.ts'

beforeAll(async () => {
  await wasm()
})

const folder = `${fixtures}quant/gguf/`
const bytesIn = async (name: string): Promise<Uint8Array> => new Uint8Array(await readFile(`${folder}${name}`))
const json = async <T>(name: string): Promise<T> => JSON.parse(await readFile(`${folder}${name}`, 'utf8')) as T
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
interface Described {
  readonly type: string
  readonly shape: readonly number[]
  readonly hex: string
}

describe('a file of the gguf package', () => {
  it('is read: every type of value, shapes, bytes', async () => {
    const file = await openGguf(fromBytes(await bytesIn('theirs.gguf'), 'theirs.gguf'))
    const { fields, lists, tensors } = await json<{
      fields: Record<string, unknown>
      lists: Record<string, unknown[]>
      tensors: Record<string, Described>
    }>('theirs.json')
    for (const [key, value] of Object.entries(fields)) {
      const found = file.metadata.get(key)!
      expect(found.type, key).toBe(key.slice(2))
      // whole numbers lie in the JSON as text, so that none is rounded
      expect(/^[ui]\d/.test(found.type) ? String(found.value) : found.value, key).toEqual(value)
    }
    for (const [key, value] of Object.entries(lists)) expect(file.metadata.get(key)!.value, key).toEqual(value)
    expect([...file.tensors.keys()]).toEqual(Object.keys(tensors))
    for (const [name, t] of Object.entries(tensors)) {
      expect(file.tensors.get(name), name).toMatchObject({ type: t.type, shape: t.shape })
      expect(hex(await file.read(name)), name).toBe(t.hex)
    }
  })

  it('cuts texts as SentencePiece does, from its pieces and scores', async () => {
    const tokenizer = await loadTokenizer(await ggufFolder(fromBytes(await bytesIn('pieces.gguf'), 'pieces.gguf')))
    const { texts } = await json<{ texts: readonly { text: string; ids: readonly number[] }[] }>('pieces.json')
    for (const { text, ids } of texts) {
      expect(tokenizer.encode(text, { special: false }), text).toEqual(ids)
      expect(tokenizer.decode(ids), text).toBe(text)
    }
  })
})

const ramp = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => Math.sin(i) * (1 + i / 50))
const floats = (n: number): Uint8Array => new Uint8Array(ramp(n).buffer)
const packed = (type: GgmlType, rows: number, width: number): Uint8Array => {
  const { q } = gguf({ type }).encode(tensor(ramp(rows * width), [rows, width]))
  return new Uint8Array((q.dataSync() as Int32Array).slice().buffer)
}
const wide: readonly [GgmlType, number][] = [
  ['Q4_0', 64],
  ['Q8_0', 64],
  ['Q4_K', 512],
  ['Q6_K', 512],
]
const ours = (): GgufFile => ({
  metadata: new Map<string, GgufField>([
    ['general.architecture', { type: 'string', value: 'llama' }],
    ['a.u8', { type: 'u8', value: 200 }],
    ['a.i8', { type: 'i8', value: -100 }],
    ['a.u16', { type: 'u16', value: 60_000 }],
    ['a.i16', { type: 'i16', value: -30_000 }],
    ['a.u32', { type: 'u32', value: 4_000_000_000 }],
    ['a.i32', { type: 'i32', value: -2_000_000_000 }],
    ['a.f32', { type: 'f32', value: 0.15625 }],
    ['a.bool', { type: 'bool', value: true }],
    ['a.string', { type: 'string', value: 'žluť 🦊' }],
    ['a.u64', { type: 'u64', value: 2n ** 60n + 1n }],
    ['a.i64', { type: 'i64', value: -(2n ** 60n) - 1n }],
    ['a.f64', { type: 'f64', value: 0.1 }],
    ['l.numbers', { type: 'array', of: 'i32', value: [1, -2, 3] }],
    ['l.texts', { type: 'array', of: 'string', value: ['', 'a', 'ß'] }],
  ]),
  tensors: [
    { name: 'plain.weight', type: 'F32', shape: [3, 5], data: floats(15) },
    { name: 'three', type: 'F32', shape: [2, 3, 4], data: floats(24) },
    ...wide.map(([type, width]) => {
      const { length } = packed(type, 2, width)
      const whole = { Q4_0: 72, Q8_0: 136, Q4_K: 576, Q6_K: 840 }[type as string]!
      return {
        name: `${type}.weight`,
        type,
        shape: [2, width],
        data: packed(type, 2, width).subarray(0, Math.min(length, whole)),
      }
    }),
  ],
})

describe('a file of ours', () => {
  it('is, byte for byte, the one that the gguf package has read', async () => {
    const sink = blobSink()
    await writeGguf(sink, ours())
    const bytes = new Uint8Array(await sink.blob().arrayBuffer())
    if (process.env['WEFT_GGUF_FIXTURE'] === 'write') {
      await mkdir(folder, { recursive: true })
      await writeFile(`${folder}ours.gguf`, bytes)
    }
    expect(hex(bytes)).toBe(hex(await bytesIn('ours.gguf')))
  })

  it('says the same to the gguf package', async () => {
    const { fields, tensors } = await json<{
      fields: Record<string, { types: readonly string[]; value: unknown }>
      tensors: Record<string, Described>
    }>('ours.json')
    const { metadata, tensors: given } = ours()
    expect(Object.keys(fields)).toEqual([...metadata.keys()])
    for (const [key, field] of metadata) {
      const whole = typeof field.value === 'number' && Number.isInteger(field.value)
      expect(fields[key]!.value, key).toEqual(
        whole || typeof field.value === 'bigint' ? String(field.value) : field.value,
      )
    }
    expect(Object.keys(tensors)).toEqual(given.map((t) => t.name))
    for (const { name, type, shape, data } of given) {
      expect(tensors[name], name).toMatchObject({ type, hex: hex(data as Uint8Array) })
      expect(tensors[name]!.shape, name).toEqual(shape)
    }
  })
})
