import { attach, loadNetwork, namesOf, seeing } from '@weftjs/model'
import type { Batch, Codec, Seen, Tensor2D } from '@weftjs/spec'
import { add, cpu, linear, matMul, mul, rng, sub, sum, tensor, wasm } from '@weftjs/tensor'
import { type Checkpoint, fromBytes, openSafetensors, type TensorBytes, toSafetensors } from '@weftjs/tensor/checkpoint'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { tinyLlama } from '@weftjs/testkit'
import { packed } from '@weftjs/weight'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { aqlm, bitsPerWeight, fromPacked, packedWriter, quantize } from '../src/index.ts'
import { packStream, streamAt, unpackStream } from '../src/kernels/stream.ts'
import { lossOf } from '../src/solve/aqlm.ts'
import { search } from '../src/solve/beam.ts'
import { kMeans } from '../src/solve/kmeans.ts'
import { fixture, floats } from './fixtures.ts'

beforeAll(async () => {
  await cpu()
})
const everything = async (file: Checkpoint): Promise<Record<string, TensorBytes>> =>
  Object.fromEntries(await Promise.all(file.names.map(async (n) => [n, await file.read(n)] as const)))
const seenOf = (moment: Tensor2D): Seen => ({ rows: 100, batches: 1, get: () => moment })

const LAYERS: [name: string, shape: [number, number], bits: number][] = [
  ['2x8', [16, 32], 2 + (2 * 256 * 8 * 16) / 512 + 1],
  ['1x9', [12, 24], 9 / 8 + (512 * 8 * 16) / 288 + 32 / 24],
  ['3x3', [12, 30], 0.9 + (3 * 8 * 10 * 16) / 360 + 32 / 60],
]

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('a layer in the layout of the aqlm package, on %s', (_, backend) => {
  beforeAll(async () => {
    await backend()
  })
  it.each(LAYERS)('%s: decodes and multiplies as there, and is written byte for byte', async (name, shape) => {
    const file = await fixture(`aqlm-${name}`)
    const expected = await fixture(`aqlm-${name}.expected`)
    const weight = (await fromPacked(file, 'proj.weight', shape, {}))!
    const want = await expected.floats('weight')
    weight
      .dense()
      .dataSync()
      .forEach((v, i) => {
        expect(v).toBeCloseTo(want[i]!, 6)
      })
    const y = await expected.floats('output')
    const x = await floats(expected, 'input')
    weight
      .apply(x)
      .dataSync()
      .forEach((v, i) => {
        expect(v).toBeCloseTo(y[i]!, 5)
      })
    const names = [{ name: 'a', hf: 'proj.weight' }]
    const writer = (await packedWriter({ config: {}, weights: { a: weight }, vectors: {} }, names))!
    const stored = await everything(file)
    const made = writer.tensors('proj.weight', weight)!
    expect(made.map((t) => t.name).sort()).toEqual(Object.keys(stored).sort())
    for (const { name: key, dtype, shape: of, data } of made) {
      expect([key, dtype, of]).toEqual([key, stored[key]!.dtype, stored[key]!.shape])
      const bytes = (typeof data === 'function' ? await data() : data) as Uint8Array
      expect(Buffer.from(bytes).equals(Buffer.from(stored[key]!.data)), key).toBe(true)
    }
  })
  it.each(LAYERS)('%s: takes the bits that its codes, books and scales take', async (name, shape, bits) => {
    const { codec } = (await fromPacked(await fixture(`aqlm-${name}`), 'proj.weight', shape, {}))!
    expect(bitsPerWeight(codec!, shape)! * shape[0] * shape[1] - bits * shape[0] * shape[1]).toBeLessThan(32)
    expect(bitsPerWeight(codec!, shape)!).toBeGreaterThanOrEqual(bits - 1e-9)
  })
})

it('a checkpoint of transformers with aqlm loads, gives its logits, and is written as it was read', async () => {
  const folder = new URL('../../testkit/fixtures/models/llama3-aqlm', import.meta.url).pathname
  const network = await loadNetwork(nodeFolder(folder), { packed: fromPacked })
  expect(network.weights['blocks.0.attn.q']!.format).toBe('aqlm')
  const ref = await openSafetensors(await fromFile(`${folder}/reference.safetensors`))
  const ids = tensor(await ref.ints('input_ids'), ref.entry('input_ids').shape as number[], 'int32')
  const { logits } = attach(network, [], rng(0)).forward({}, { ids })
  const want = await ref.floats('logits')
  const most = Math.max(...want.map(Math.abs))
  logits.dataSync().forEach((v, i) => {
    if (Math.abs(v - want[i]!) > 1e-5 * most) expect(v).toBeCloseTo(want[i]!, 5)
  })
  const names = [...namesOf(network.config)]
  const writer = (await packedWriter(network, names))!
  const { quantization_config: config } = network.config.source as { quantization_config: object }
  expect(writer.config['quantization_config']).toMatchObject({
    ...config,
    linear_weights_not_to_quantize: expect.anything(),
  })
  expect((writer.config['quantization_config'] as any).linear_weights_not_to_quantize).toContain('lm_head')
  const file = await openSafetensors(await fromFile(`${folder}/model.safetensors`))
  for (const { name, hf } of names)
    for (const { name: key, data } of (network.weights[name] && writer.tensors(hf, network.weights[name]!)) ?? []) {
      const bytes = (typeof data === 'function' ? await data() : data) as Uint8Array
      expect(Buffer.from(bytes).equals(Buffer.from((await file.read(key)).data)), key).toBe(true)
    }
})

describe('rows of bits', () => {
  it('come back as they went in', () =>
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 16 }).chain((bits) => fc.tuple(fc.constant(bits), fc.array(fc.nat(2 ** bits - 1)))),
        ([bits, codes]) => {
          const words = packStream(codes, bits)
          expect(words.length).toBe(Math.ceil((codes.length * bits) / 32))
          expect([...unpackStream(words, bits, codes.length)]).toEqual(codes)
          if (codes.length) expect(streamAt(words, bits, codes.length - 1)).toBe(codes.at(-1))
        },
      ),
    ))
  it('begin with the lowest bit', () => {
    expect([...packStream([5, 2, 7], 3)]).toEqual([0b111_010_101])
    expect([...packStream([0xabc, 0xdef, 0x123], 12)].map((v) => v >>> 0)).toEqual([0x23defabc, 0x1])
  })
})

describe('k-means', () => {
  const draws = (k: number): Float64Array => rng(4).numbers(k)
  it('finds as many different points as it has centers', () => {
    const points = Float64Array.from({ length: 60 }, (_, i) => [0, 3, -1, 8][Math.floor(i / 2) % 4]! + (i % 2))
    expect(kMeans(points, { k: 4, d: 2, draws: draws(4) }).loss).toBe(0)
    expect(kMeans(points, { k: 9, d: 2, draws: draws(9) }).loss).toBe(0)
    expect(kMeans(points, { k: 3, d: 2, draws: draws(3) }).loss).toBeGreaterThan(0)
  })
  it('with one center takes the weighted mean', () => {
    const weights = Float64Array.of(3, 1, 1, 1)
    const { centers } = kMeans(Float64Array.of(0, 4, 4, 8), { k: 1, d: 2, weights, draws: draws(1) })
    expect([...centers]).toEqual([1, 6])
  })
})

describe('on the heap, in threads', () => {
  const momentOf = (n: number): Tensor2D => {
    const x = mul(rng(7).normal([n, n]), rng(8).uniform([n], 0.1, 3))
    return mul(matMul(x, x, true), 1 / n) as Tensor2D
  }
  it.each([
    ['two books', [72, 48], { bits: 5 }, true],
    ['two books, with no H', [72, 48], { bits: 5 }, false],
    ['groups of two rows, three guesses', [70, 33], { bits: 4, group: 3, outGroup: 2, beam: 3 }, true],
    ['three small books, four guesses', [19, 25], { bits: 1, group: 5, codebooks: 3, beam: 4, rounds: 2 }, true],
    ['one book, two guesses, with no H', [64, 12], { bits: 3, group: 4, codebooks: 1, beam: 2 }, false],
  ] as const)('%s: codes, books and scales are those of the loops in JavaScript', async (_, shape, options, seen) => {
    const numbers = rng(5)
      .normal([...shape])
      .dataSync() as Float32Array
    const moment = momentOf(shape[1]).dataSync() as Float32Array
    const solve = (): ArrayLike<number>[] => {
      const h = seen ? seenOf(tensor(moment, [shape[1], shape[1]]) as Tensor2D) : undefined
      const parts = aqlm(options).encode(tensor(numbers, [...shape]) as Tensor2D, h)
      return Object.values(parts).map((t) => t.dataSync())
    }
    await wasm()
    const found = solve()
    await cpu()
    expect(found).toEqual(solve())
  })
  it('points that weigh nothing, or of which there are few', async () => {
    const x = rng(1)
      .numbers(300)
      .map((v, i) => (i % 3 ? v : 0))
    const weights = Float64Array.from(x, (_, i) => (i % 3 === 1 ? 0 : i % 7))
    for (const k of [1, 5, 8, 150])
      for (const w of [undefined, weights, weights.map(() => 0)]) {
        const options = { k, d: 3, draws: rng(2).numbers(k), ...(w && { weights: w }) }
        await wasm()
        const found = kMeans(Float64Array.from(x), options)
        await cpu()
        expect(found).toEqual(kMeans(Float64Array.from(x), options))
      }
  })
})

describe('codes, books and scales', () => {
  const shape = { out: 2, input: 6, codebooks: 1, bits: 2, group: 2, outGroup: 1 }
  const moment = (n: number, seed: number): Tensor2D => {
    const x = mul(rng(seed).normal([4 * n, n]), rng(seed + 1).uniform([n], 0.1, 3))
    return mul(matMul(x, add(x, 0), true), 1 / (4 * n)) as Tensor2D
  }
  const matrixOf = (t: Tensor2D) => ({ rows: t.shape[0], cols: t.shape[1], data: Float64Array.from(t.dataSync()) })
  const numbers = (n: number, seed: number): Float64Array => Float64Array.from(rng(seed).normal([n]).dataSync())

  it('a beam as wide as there are guesses finds the best of all', () => {
    for (let seed = 0; seed < 10; seed++) {
      const [w, books] = [numbers(12, seed), numbers(8, seed + 50)]
      const h = matrixOf(moment(6, seed))
      const found = { codes: new Int32Array(6), books, scales: Float64Array.of(1, 0.7) }
      const loss = (codes: Int32Array): number => lossOf(w, shape, { ...found, codes }, h)
      const codes = search(w, shape, found, { moment: h, beam: 64 })
      let least = Number.POSITIVE_INFINITY
      for (let i = 0; i < 4 ** 6; i++)
        least = Math.min(least, loss(Int32Array.from({ length: 6 }, (_, g) => (i >> (2 * g)) & 3)))
      expect(loss(codes)).toBeCloseTo(least, 10)
    }
  })
  it('a search never loses, at any width of the beam, with what the layer reads or without', () =>
    fc.assert(
      fc.property(
        fc.nat(1000),
        fc.integer({ min: 1, max: 5 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 2 }),
        (seed, beam, data, outGroup) => {
          const many = { out: 4, input: 12, codebooks: 2, bits: 3, group: 3, outGroup }
          const w = numbers(48, seed)
          const h = data ? matrixOf(moment(12, seed + 1)) : undefined
          const n = (4 / outGroup) * 4 * 2
          const found = {
            codes: Int32Array.from(rng(seed).numbers(n), (v) => Math.floor(8 * v)),
            books: numbers(2 * 8 * 3 * outGroup, seed + 2),
            scales: numbers(4 / outGroup, seed + 3),
          }
          const codes = search(w, many, found, { moment: h, beam })
          const [before, after] = [lossOf(w, many, found, h), lossOf(w, many, { ...found, codes }, h)]
          expect(after).toBeLessThanOrEqual(before * (1 + 1e-9))
        },
      ),
      { numRuns: 40 },
    ))

  /** tr(dW·H·dWᵀ) relative to tr(W·H·Wᵀ) */
  const lost = (codec: Codec<any>, w: Tensor2D, h: Tensor2D, seen?: Seen): number => {
    const d = sub(w, codec.decode(codec.encode(w, seen), w.shape))
    const of = (m: typeof d): number => sum(mul(matMul(m as Tensor2D, h), m)).dataSync()[0]!
    return of(d) / of(w)
  }
  it('what the layer reads makes its outputs better, and turns do what k-means alone does not', () => {
    const options = { codebooks: 2, bits: 4, group: 4 }
    const margins = [0, 1, 2].map((seed) => {
      const w = rng(seed).normal([48, 64]) as Tensor2D
      const h = moment(64, seed + 7)
      const [blind, seeing] = [lost(aqlm(options), w, h), lost(aqlm(options), w, h, seenOf(h))]
      const first = lost(aqlm({ ...options, rounds: 0, steps: 0 }), w, h, seenOf(h))
      expect(seeing).toBeLessThan(0.75 * blind)
      expect(seeing).toBeLessThan(first)
      return [blind, first, seeing]
    })
    console.info(
      'lost of the outputs: without data, k-means with data, all',
      JSON.stringify(margins.map((m) => m.map((v) => +v.toFixed(4)))),
    )
  })
  it('a network is packed block by block by what its layers read', async () => {
    const network = tinyLlama(rng(3))
    const n = 64
    const batch: Batch = {
      shape: [8, 8],
      ids: Int32Array.from(rng(4).numbers(n), (v) => Math.floor(24 * v)),
      targets: Int32Array.from(rng(5).numbers(n), (v) => Math.floor(24 * v)),
      positions: Int32Array.from({ length: n }, (_, i) => i % 8),
      segments: new Int32Array(n).fill(1),
    }
    const see = seeing([batch])
    const codec = aqlm({ codebooks: 2, bits: 3, group: 4, rounds: 2 })
    const small = await quantize(network, codec, { see })
    see.dispose()
    await expect(quantize(network, codec)).rejects.toThrow(/aqlm looks at what the layer reads/)
    const blind = await quantize(network, aqlm({ codebooks: 2, bits: 3, group: 4, rounds: 2, calibrate: false }))
    const name = 'blocks.1.mlp.down'
    expect(small.weights[name]!.format).toBe('aqlm')
    expect(await small.weights[name]!.dense().data()).not.toEqual(await blind.weights[name]!.dense().data())
  })
  it('at 2 and at 1 bit a weight, the books apart', () => {
    expect(bitsPerWeight(aqlm(), [4096, 4096])).toBeCloseTo(2 + (2 * 256 * 8 * 16) / 4096 ** 2 + 32 / 4096, 9)
    expect(bitsPerWeight(aqlm({ codebooks: 1 }), [4096, 4096])).toBeCloseTo(
      1 + (256 * 8 * 16) / 4096 ** 2 + 32 / 4096,
      9,
    )
  })
})

describe('what cannot be', () => {
  it('shapes, options and data that do not fit are refused', () => {
    const w = rng(0).normal([4, 12]) as Tensor2D
    expect(() => aqlm().encode(w)).toThrow('rows of 12 are not divided into groups of 8')
    expect(() => aqlm({ group: 4, outGroup: 3 }).encode(w)).toThrow('4 rows are not divided into groups of 3')
    expect(() => aqlm({ bits: 17 })).toThrow('bits must be a whole number from 1 to 16, found 17')
    expect(() => aqlm({ codebooks: 0 })).toThrow('codebooks must be')
    const codec = aqlm({ group: 4, bits: 2 })
    expect(() => codec.encode(w, seenOf(rng(0).normal([8, 8]) as Tensor2D))).toThrow(
      'moment is [8, 8], the layer reads 12',
    )
    expect(() => codec.encode(w, seenOf(mul(rng(0).normal([12, 12]), 0) as Tensor2D))).toThrow(
      'mean square of what the layer reads is 0',
    )
  })

  it('a damaged file is refused by the name of the tensor, and nothing else is thrown', async () => {
    const good = await everything(await fixture('aqlm-1x9'))
    const read = async (change: Record<string, TensorBytes | undefined>) => {
      const all = Object.entries({ ...good, ...change }).filter((e): e is [string, TensorBytes] => e[1] !== undefined)
      const bytes = toSafetensors(Object.fromEntries(all))
      return fromPacked(await openSafetensors(fromBytes(bytes, 'x.safetensors')), 'proj.weight', [12, 24], {})
    }
    const of = (dtype: TensorBytes['dtype'], shape: number[], bytes: number): TensorBytes => ({
      dtype,
      shape,
      data: new Uint8Array(bytes),
    })
    await expect(read({ 'proj.codebooks': of('F16', [1, 500, 1, 8], 8000) })).rejects.toThrow(
      /"proj.codebooks": holds no code books/,
    )
    await expect(read({ 'proj.codebooks': of('F16', [512, 8], 8192) })).rejects.toThrow(/holds no code books/)
    await expect(read({ 'proj.codebooks': of('F16', [1, 512, 1, 5], 5120) })).rejects.toThrow(
      /rows of 24 are not divided/,
    )
    await expect(read({ 'proj.codes': of('I8', [12, 3, 1], 36) })).rejects.toThrow(/"proj.codes": is I8 .* where I16/)
    await expect(read({ 'proj.codes': of('I16', [12, 2, 1], 48) })).rejects.toThrow(/I16 or U16 \[12,3,1\] is needed/)
    await expect(read({ 'proj.scales': undefined })).rejects.toThrow(/proj.scales.*not in this checkpoint/)
    await expect(read({ 'proj.scales': of('F16', [12, 3, 1, 1], 72) })).rejects.toThrow(/"proj.scales": is F16/)
    const names = Object.keys(good)
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...names),
        fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 5 }),
        fc.constantFrom('I8', 'I16', 'F16', 'F32', 'U8'),
        fc.uint8Array({ minLength: 1, maxLength: 50 }),
        async (name, dims, dtype, noise) => {
          const { dtype: own, shape, data } = good[name]!
          const size = dims.reduce((n, d) => n * d, { I8: 1, U8: 1, I16: 2, F16: 2, F32: 4 }[dtype as string]!)
          const bytes = data.slice().map((v, i) => v ^ noise[i % noise.length]!)
          for (const changed of [{ dtype: own, shape, data: bytes }, of(dtype as 'I8', dims, size)])
            try {
              const found = await read({ [name]: changed })
              expect(found!.dense().shape).toEqual([12, 24])
            } catch (error) {
              expect((error as Error).name, String(error)).toBe('CheckpointError')
            }
        },
      ),
      { numRuns: 60 },
    )
  })

  it('weights that differ in books have no place in one checkpoint', async () => {
    const w = rng(0).normal([8, 16]) as Tensor2D
    const weights = { a: packed(aqlm({ bits: 2 }) as Codec, w), b: packed(aqlm({ bits: 3 }) as Codec, w) }
    const names = ['a', 'b'].map((name) => ({ name, hf: `${name}.weight` }))
    await expect(packedWriter({ config: {}, weights, vectors: {} }, names, 'aqlm')).rejects.toThrow(
      /says codebooks, bits and groups once/,
    )
    // our own layout takes them
    expect((await packedWriter({ config: {}, weights, vectors: {} }, names))!.config).toMatchObject({
      quantization_config: { quant_method: 'weft' },
    })
    expect(linear(w, weights.a.dense()).shape).toEqual([8, 8])
  })
})
