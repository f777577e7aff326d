import type { Codec, Seen, Statistic, Tensor2D } from '@weftjs/spec'
import { cpu, kernels, matMul, rng, tensor, tensor1d, wasm } from '@weftjs/tensor'
import { fromParts } from '@weftjs/weight'
import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { griddedBlocks } from '../src/gguf/blocks/gridded.ts'
import { blockOf, blocks, loadGgufTypes, writable } from '../src/gguf/blocks/index.ts'
import { gguf } from '../src/gguf.ts'
import { bitsPerWeight } from '../src/index.ts'
import { bytes, fixture } from './fixtures.ts'
import { compare } from './products.ts'

const file = await fixture('gguf')
const early = ((): unknown => {
  try {
    return gguf({ type: 'IQ3_S' })
  } catch (error) {
    return error
  }
})()
await loadGgufTypes(['IQ3_S'])
const SHAPE = [8, 512] as const
const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex')

/** a calibration pass that saw inputs of this mean square in each column */
const seen = (columns: Float32Array): Seen => ({
  rows: 100,
  batches: 1,
  get: (statistic: Statistic) => {
    if (statistic !== 'square') throw new Error(`there is no ${statistic}`)
    return tensor1d(columns)
  },
})

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('gguf on %s', (_, backend) => {
  beforeAll(async () => {
    await backend()
  })
  afterEach(() => {
    kernels.plain = false
  })
  const x = async (): Promise<Tensor2D> => tensor(await file.floats('x'), [...SHAPE]) as Tensor2D

  it.each(writable.filter((t) => file.has(t)).map((t) => [t]))(
    '%s: its part is the bytes of the file',
    async (type) => {
      const { data } = await file.read(type)
      const codec = gguf({ type })
      const { q } = codec.encode(await x())
      expect(q.size).toBe(Math.ceil(data.length / 4))
      const got = bytes(q, data.length)
      const row = data.length / SHAPE[0]
      for (let r = 0; r < SHAPE[0]; r++)
        expect(hex(got.subarray(r * row, (r + 1) * row)), `row ${r}`).toBe(hex(data.subarray(r * row, (r + 1) * row)))
      expect(bitsPerWeight(codec, [256, 256])).toBe((8 * data.length) / (SHAPE[0] * SHAPE[1]))
    },
  )

  it.each(writable.filter((t) => file.has(`${t}.importance`)).map((t) => [t]))(
    '%s: with importance, the bytes that ggml writes by its matrix',
    async (type) => {
      const { data } = await file.read(`${type}.importance`)
      const codec = gguf({ type, importance: true })
      expect(codec.calibrates).toEqual(['square'])
      const w = await x()
      const columns = seen(await file.floats('importance'))
      expect(hex(bytes(codec.encode(w, columns).q, data.length))).toBe(hex(data))
      // without data it is as without importance
      const plain = (await file.read(type)).data
      expect(hex(bytes(codec.encode(w).q, data.length))).toBe(hex(plain))
    },
  )

  it.each([...blocks, ...griddedBlocks].map((b) => [b.type, b] as const))(
    '%s: any bytes decode as block by block',
    (type, block) => {
      const shape = [6, 3 * Math.max(256, block.size)] as const
      const n = (shape[0] * shape[1] * block.bytes) / block.size
      const random = rng(block.id)
        .numbers(n)
        .map((v) => Math.floor(256 * v))
      const words = new Int32Array(Math.ceil(n / 4))
      new Uint8Array(words.buffer).set(Uint8Array.from(random))
      const q = tensor1d(words, 'int32')
      const codec = gguf({ type: type as never })
      const want = new Float32Array(shape[0] * shape[1])
      for (let i = 0; i < want.length / block.size; i++)
        block.dequantize(new Uint8Array(words.buffer), i * block.bytes, want, i * block.size)
      const same = (got: ArrayLike<number>, want: Float32Array): void => {
        expect(got.length).toBe(want.length)
        // a zero's sign is of no account
        const odd = want.findIndex((v, i) => !Object.is(v + 0, got[i]! + 0))
        expect(odd < 0 || [odd, got[odd]]).toBe(odd < 0 || [odd, want[odd]])
      }
      same(codec.decode({ q }, shape).dataSync(), want)
      const rows = codec.rows!({ q }, shape, tensor([5, 0, 3, 3], [2, 2], 'int32'))
      expect(rows.shape).toEqual([2, 2, shape[1]])
      const picked = [5, 0, 3, 3].flatMap((r) => [...want.slice(r * shape[1], (r + 1) * shape[1])])
      same(rows.dataSync(), Float32Array.from(picked))
      expect(() => codec.rows!({ q }, shape, tensor1d([6], 'int32'))).toThrow(/index 6 is outside 0..5/)
    },
  )

  it.each(writable.map((t) => [t]))('%s: any numbers are packed as block by block', async (type) => {
    const { size } = blockOf(type)
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: size > 32 ? 2 : 11 }),
        fc.constantFrom(1, 1e-3, 300, 1e-25, 1e25),
        fc.boolean(),
        fc.integer({ min: 0, max: 1e6 }),
        async (rows, count, scale, importance, seed) => {
          const shape = [rows, count * Math.max(32, size)] as const
          const random = rng(seed)
          // of all kinds: small and large ones, zeros of both signs, ties
          const w = random.numbers(shape[0] * shape[1]).map((v, i) => {
            const kind = (seed + (i >> 4)) % 5
            const x = scale * (v - 0.5)
            return kind === 0
              ? 0 * x
              : kind === 1
                ? (Math.round(8 * v) - 4) * scale
                : kind === 2
                  ? x ** 3 / scale ** 2
                  : x
          })
          const columns = Float32Array.from(random.numbers(shape[1]), (v) => 4 * v * v + 1e-3)
          const codec = gguf({ type, importance })
          const both = [false, true].map((plain) => {
            kernels.plain = plain
            const n = (shape[0] * shape[1] * blockOf(type).bytes) / size
            return hex(bytes(codec.encode(tensor(Float32Array.from(w), [...shape]) as Tensor2D, seen(columns)).q, n))
          })
          expect(both[0]).toBe(both[1])
        },
      ),
      { numRuns: 30, seed: 3 },
    )
  })

  it('products of a type of grids are those of the decoded matrix', () => {
    const [codec, shape] = [gguf({ type: 'IQ2_S' }), [34, 512] as const]
    const words = rng(5)
      .numbers((34 * 2 * 82) / 4)
      .map((v) => Math.floor((2 * v - 1) * 2 ** 31))
    const bytes = new Uint8Array(Int32Array.from(words).buffer)
    for (let at = 0; at < bytes.length; at += 82) bytes.set([0, 0x2c], at)
    const parts = { q: tensor1d(new Int32Array(bytes.buffer), 'int32') }
    const x = tensor(Float32Array.from(rng(6).numbers(3 * 512)), [3, 512])
    const want = matMul(x as Tensor2D, codec.decode(parts, shape) as Tensor2D, false, true).dataSync()
    const got = fromParts(codec, parts, shape).apply(x).dataSync()
    expect(Math.max(...want.map((v, i) => Math.abs(v - got[i]!)))).toBeLessThan(1e-4 * Math.max(...want.map(Math.abs)))
  })
  it.each(writable.map((t) => [t]))('%s: products are those of the decoded matrix', async (type) => {
    const codec = gguf({ type }) as Codec
    for (const [rows, shape] of [
      [
        [1, 1],
        [37, 768],
      ],
      [
        [3, 2],
        [16, 256],
      ],
      [[9], [34, 512]],
    ] as const)
      await compare(_, codec, { rows, shape })
  })
})

describe('what cannot be', () => {
  beforeAll(async () => {
    await cpu()
  })
  it('is refused, with a remedy', () => {
    const w = rng(0).normal([4, 96]) as Tensor2D
    expect(() => gguf().encode(w)).toThrow(/row of 96 .* blocks of 256, which Q4_K has; take Q5_0 here, or/)
    expect(() => gguf({ type: 'Q6_K' }).layout!([4, 96])).toThrow(/take Q8_0/)
    expect(() => gguf({ type: 'Q3_K' }).layout!([4, 96])).toThrow(/take IQ4_NL/)
    expect(() => gguf({ type: 'Q8_0' }).layout!([4, 100])).toThrow(/take F16/)
    expect(() => gguf({ type: 'Q8_1' }).encode(w)).toThrow(/can be read and not made here; those that can are F32/)
    expect(() => gguf({ type: 'IQ3_S' }).encode(w)).toThrow(/IQ3_S can be read and not made here; those that can are/)
    expect(String(early)).toMatch(/IQ3_S can be read and not made here.*await loadGgufTypes\(\)/)
    for (const type of ['I32', 'constructor'])
      expect(() => gguf({ type: type as never })).toThrow(/cannot be read here; known are F32/)
  })
})
