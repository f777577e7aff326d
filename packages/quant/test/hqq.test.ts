import type { Codec, Network, Tensor, Tensor2D } from '@weftjs/spec'
import { abs, cpu, div, max, mean, min, mul, rng, sub, tensor, wasm } from '@weftjs/tensor'
import {
  type Checkpoint,
  fromBytes,
  openSafetensors,
  type TensorBytes,
  type TensorSource,
  toSafetensors,
} from '@weftjs/tensor/checkpoint'
import { packed } from '@weftjs/weight'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { format, fromHqq, toHqq } from '../src/formats/hqq.ts'
import { packHqq, unpackHqq } from '../src/formats/hqq-pack.ts'
import { type HqqOptions, hqq } from '../src/hqq.ts'
import { bitsPerWeight } from '../src/kernels/layout.ts'
import { halfQuadratic } from '../src/solve/hqq.ts'
import { besideLibrary, bytesOf, fixture } from './fixtures.ts'

const SHAPE = [16, 128] as const
/** what tools/reference/quant_hqq.py asked the library for */
const LAYERS: Readonly<Record<string, HqqOptions>> = {
  four: { dtype: 'F32' },
  four_half: {},
  four_columns: { axis: 0, dtype: 'F32' },
  four_plain: { optimize: false, dtype: 'F32' },
  three: { bits: 3, dtype: 'F32' },
  three_columns: { bits: 3, group: 32, axis: 0, dtype: 'BF16' },
  two: { bits: 2, group: 16, dtype: 'F32' },
  two_columns: { bits: 2, group: 16, axis: 0 },
  ternary: { bits: 1.58, group: 16, dtype: 'F32' },
  one: { bits: 1, group: 16, dtype: 'F32' },
  eight: { bits: 8, group: 128 },
  row: { group: -1, dtype: 'F32' },
}
const written = async (tensors: readonly TensorSource[]): Promise<Record<string, TensorBytes>> =>
  Object.fromEntries(
    await Promise.all(
      tensors.map(async (t) => [t.name, { dtype: t.dtype, shape: t.shape, data: await bytesOf(t) }] as const),
    ),
  )
const opened = (tensors: Readonly<Record<string, TensorBytes>>): Promise<Checkpoint> =>
  openSafetensors(fromBytes(toSafetensors(tensors), 'made'))
const errorOf = (codec: Codec<any>, w: Tensor2D): number =>
  mean(abs(sub(codec.decode(codec.encode(w), w.shape), w))).dataSync()[0]!

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('hqq on %s', (_, backend) => {
  let file: Checkpoint
  let expected: Checkpoint
  let w: Tensor2D
  beforeAll(async () => {
    await backend()
    ;({ file, expected, w } = await besideLibrary('hqq'))
  })

  it.each(Object.keys(LAYERS))('%s: a layer of the library is read and written again, byte for byte', async (name) => {
    const weight = (await fromHqq(file, `${name}.weight`, SHAPE))!
    const made = toHqq(`${name}.weight`, weight)
    const theirs = file.names.filter((n) => n.startsWith(`${name}.`) && !n.endsWith('.bias'))
    expect(made.map((t) => t.name).sort()).toEqual([...theirs].sort())
    for (const t of made) {
      const { dtype, shape } = file.entry(t.name)
      expect([t.name, t.dtype, t.shape]).toEqual([t.name, dtype, shape])
      expect((await bytesOf(t)).equals(Buffer.from((await file.read(t.name)).data)), t.name).toBe(true)
    }
  })

  it.each([
    ['four', 0],
    ['three', 0],
    ['ternary', 0],
    // the library multiplies in 16 bits
    ['four_half', 2e-4],
    ['two_columns', 2e-4],
  ])('%s: decodes to the numbers of the library', async (name, tolerance) => {
    const found = (await fromHqq(file, `${name}.weight`, SHAPE))!.dense().dataSync()
    const want = await expected.floats(name)
    for (const [i, v] of found.entries()) expect(Math.abs(v - want[i]!)).toBeLessThanOrEqual(tolerance)
  })

  it.each(Object.entries(LAYERS))("%s: the library's zero points and codes, where asked for", async (name, options) => {
    const codec = hqq({ ...options, zero: 'last' })
    const made = await written(toHqq(`${name}.weight`, packed(codec as Codec, w)))
    const theirs = (key: string): Promise<TensorBytes> => file.read(`${name}.${key}`)
    expect(Buffer.from(made[`${name}.W_q`]!.data).equals(Buffer.from((await theirs('W_q')).data))).toBe(true)
    const ours = await opened(made)
    for (const key of ['scale', 'zero']) {
      const [a, b] = [await ours.floats(`${name}.${key}`), await file.floats(`${name}.${key}`)]
      const step = { F32: 2e-6, F16: 2 ** -10, BF16: 2 ** -7 }[options.dtype ?? 'F16']
      for (const [i, v] of a.entries()) expect(Math.abs(v - b[i]!)).toBeLessThanOrEqual(step * (1 + Math.abs(b[i]!)))
    }
  })

  it('keeps the best zero point: never worse than plain rounding nor than the library, better with few bits', () => {
    for (const bits of [8, 4, 3, 2, 1.58, 1])
      for (const axis of [0, 1] as const) {
        const options: HqqOptions = { bits, axis, group: 32, dtype: 'F32' }
        const best = errorOf(hqq(options), w)
        const plain = errorOf(hqq({ ...options, optimize: false }), w)
        expect(best, `${bits} bits, axis ${axis}`).toBeLessThanOrEqual(plain)
        expect(best).toBeLessThanOrEqual(errorOf(hqq({ ...options, zero: 'last' }), w) + 1e-9)
        if (bits < 8) expect(best).toBeLessThan(0.97 * plain)
      }
  })

  it('holds what it has once held', () => {
    for (const bits of [8, 4, 3, 2]) {
      // a zero point that begins as a whole number need not find back to where it was
      for (const [roundZero, most] of [[false, 1e-4] as const, ...(bits === 4 ? [[true, 0.01] as const] : [])]) {
        const codec = hqq({ bits, roundZero, dtype: 'F32' })
        const once = codec.decode(codec.encode(w), [...SHAPE])
        const size = mean(abs(once)).dataSync()[0]!
        expect(errorOf(codec, once) / size, `${bits} bits`).toBeLessThan(most)
      }
    }
  })
})

describe('on the heap, in threads over groups', () => {
  it.each([
    ['rows', 1, 'best', [7, 130]],
    ['rows in threads', 1, 'best', [1001, 24]],
    ['columns', 0, 'best', [70, 9]],
    ['rows, as the library', 1, 'last', [1001, 24]],
    ['columns, as the library', 0, 'last', [5, 1002]],
  ] as const)('%s: codes and errors are those of the ops', async (_, axis, zero, shape) => {
    const numbers = rng(2)
      .normal([...shape], 0.1)
      .dataSync()
    const solve = (): { codes: ArrayLike<number>; errors: ArrayLike<number> } => {
      const w = tensor(numbers as Float32Array, [...shape])
      const low = min(w, axis, true)
      const scale = div(7, sub(max(w, axis, true), low))
      const found = halfQuadratic(w, scale, mul(mul(low, -1), scale), { most: 7, axis, zero })
      const errors = mean(abs(sub(w, div(sub(found.codes, found.zero), scale))), axis)
      return { codes: found.codes.dataSync(), errors: errors.dataSync() }
    }
    await wasm()
    const found = solve()
    await cpu()
    const plain = solve()
    // powers differ in their last bits: a number between two codes may go to the other, and of two zero points that are as
    // good the other may be kept
    const other = Array.from(found.codes).filter((q, i) => q !== plain.codes[i]).length
    expect(other).toBeLessThan(2e-4 * numbers.length)
    const far = Array.from(found.errors).filter((e, i) => !(Math.abs(e / plain.errors[i]! - 1) < 1e-5)).length
    expect(far).toBeLessThanOrEqual(other)
    expect(new Set(Array.from(found.codes)).size).toBe(8)
  })
})

describe('hqq', () => {
  beforeAll(async () => {
    await cpu()
  })

  it('counts its bits', () => {
    expect(bitsPerWeight(hqq(), [256, 256])).toBe(4 + 32 / 64)
    expect(bitsPerWeight(hqq({ dtype: 'F32' }), [256, 256])).toBe(5)
    expect(bitsPerWeight(hqq({ bits: 3, group: 128 }), [256, 256])).toBe(3.25)
    expect(bitsPerWeight(hqq({ bits: 2, group: 16 }), [256, 256])).toBe(4)
    expect(bitsPerWeight(hqq({ bits: 1.58 }), [256, 256])).toBe(2.5)
    expect(bitsPerWeight(hqq({ bits: 1, group: -1 }), [256, 256])).toBe(1 + 32 / 256)
  })

  it('packs as the card says: 3 bits in ten parts, the last filled up', () => {
    // rows 0 ... 2 of two columns, codes 1 2 3 4 5 6 in a stream of 3 bits
    const stream = Int32Array.of(0b00000011_01011000_11010001)
    const word = (a: number): number[] => [a & 255, (a >> 8) & 255, (a >> 16) & 255, a >>> 24]
    expect([...packHqq(stream, 3, 3, 2)]).toEqual([
      ...word((1 << 27) | (3 << 24) | (5 << 21)),
      ...word((2 << 27) | (4 << 24) | (6 << 21)),
    ])
    // 1 2 3 4 of 4 bits: the first half goes high
    expect([...packHqq(Int32Array.of(0x4321), 4, 2, 2)]).toEqual([0x13, 0x24])
    expect([...packHqq(Int32Array.of(0b11100100), 2, 4, 1)]).toEqual([0b00011011])
    expect([...packHqq(Int32Array.of(0b00000001), 1, 8, 1)]).toEqual([0b10000000])
  })

  it('unpacking undoes packing', () =>
    fc.assert(
      fc.property(
        fc.constantFrom(8, 5, 4, 3, 2, 1),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer(),
        (bits, r, columns, seed) => {
          const rows = bits === 3 ? r : r * 8
          const each = bits === 5 ? 8 : bits
          const words = new Int32Array(Math.ceil((each * rows * columns) / 32))
          const stream = new Uint8Array(words.buffer)
          rng(seed)
            .numbers(Math.floor((each * rows * columns) / 8))
            .forEach((v, i) => {
              stream[i] = 256 * v
            })
          expect(unpackHqq(packHqq(words, bits, rows, columns), bits, rows, columns)).toEqual(words)
        },
      ),
    ))

  it('refuses what cannot be, and says what could', async () => {
    const w = rng(1).normal([6, 10]) as Tensor2D
    expect(() => hqq({ bits: 7 })).toThrow('bits must be 8, 6, 5, 4, 3, 2, 1.58 or 1, found 7')
    expect(() => hqq({ group: 0 })).toThrow('group must be a whole number')
    expect(() => hqq({ axis: 2 as 1 })).toThrow('axis must be 0 or 1')
    expect(() => hqq({ dtype: 'F8' as 'F16' })).toThrow("dtype must be 'F32', 'F16' or 'BF16'")
    expect(() => hqq({ zero: 'first' as 'last' })).toThrow("zero must be 'best' or 'last'")
    expect(() => hqq().encode(w)).toThrow('groups of 64 do not divide the 60 numbers of [6, 10]')
    const odd = packed(hqq({ group: 20 }) as Codec, w)
    expect(() => toHqq('a.weight', odd)).toThrow(
      'packs 2 rows of its grouped matrix into a byte (4bit_u8), and there are 3',
    )
    const network: Network<object> = { config: {}, weights: { 'blocks.0.a': odd }, vectors: {} }
    const names = [{ name: 'blocks.0.a', hf: 'layers.0.a.weight' }]
    await expect(format.writer(network, names)).rejects.toThrow('packs 2 rows')
  })

  it('writes settings by module where these differ, and refuses what hqq has no place for', async () => {
    const weightOf = (bits: number): ReturnType<typeof packed> =>
      packed(hqq({ bits }) as Codec, rng(bits).normal([8, 64]) as Tensor2D)
    const names = [0, 1].flatMap((i) =>
      ['q', 'down'].map((n) => ({ name: `blocks.${i}.${n}`, hf: `model.layers.${i}.${n}_proj.weight` })),
    )
    const networkOf = (bits: readonly number[]): Network<object> => ({
      config: {},
      weights: Object.fromEntries(names.map(({ name }, i) => [name, weightOf(bits[i]!)])),
      vectors: {},
    })
    const { config } = await format.writer(networkOf([4, 2, 4, 2]), names)
    expect(config['quantization_config']).toMatchObject({
      quant_method: 'hqq',
      quant_config: {
        q_proj: { weight_quant_params: { nbits: 4, round_zero: true } },
        down_proj: { weight_quant_params: { nbits: 2, round_zero: false } },
      },
    })
    const same = (await format.writer(networkOf([4, 4, 4, 4]), names)).config['quantization_config']
    expect(same).toMatchObject({ quant_config: { weight_quant_params: { nbits: 4 } }, skip_modules: ['lm_head'] })
    await expect(format.writer(networkOf([4, 2, 2, 2]), names)).rejects.toThrow('one setting for q_proj in all layers')
  })

  it('a damaged layer is refused with its name', async () => {
    const file = await fixture('hqq')
    const layer: Record<string, TensorBytes> = {}
    for (const name of file.names.filter((n) => n.startsWith('four.'))) layer[name] = await file.read(name)
    const reading = async (change: Record<string, TensorBytes | undefined>): Promise<unknown> => {
      const all = Object.entries({ ...layer, ...change }).filter(([, t]) => t)
      return fromHqq(await opened(Object.fromEntries(all) as Record<string, TensorBytes>), 'four.weight', SHAPE)
    }
    const int = (v: number): TensorBytes => ({ dtype: 'I32', shape: [], data: new Uint8Array(Int32Array.of(v).buffer) })
    await expect(reading({ 'four.nbits': undefined })).rejects.toThrow(/four\.W_q.*has no 'nbits' beside it/)
    await expect(reading({ 'four.nbits': int(7) })).rejects.toThrow(/bits must be 8/)
    await expect(reading({ 'four.nbits': int(2) })).rejects.toThrow(/'4bit_u8' where 2 bits are packed as 2bit_u8/)
    await expect(reading({ 'four.group_size': int(48) })).rejects.toThrow(/groups of 48 do not divide/)
    await expect(reading({ 'four.group_size': int(32) })).rejects.toThrow(/four\.scale": is F32 \[32,1\] where 64/)
    await expect(reading({ 'four.axis': int(9) })).rejects.toThrow(/axis must be 0 or 1/)
    await expect(reading({ 'four.zero': undefined })).rejects.toThrow(/quantized themselves/)
    const short = { dtype: 'U8', shape: [8, 64], data: new Uint8Array(512) } as const
    await expect(reading({ 'four.W_q': short })).rejects.toThrow(/512 bytes where 1024 are needed/)
    await expect(fromHqq(file, 'four.weight', [16, 64])).rejects.toThrow(/four\.shape.*says \[16,128\]/)
    expect(await fromHqq(file, 'other.weight', [16, 64])).toBeUndefined()
  })

  it('any bytes in its small tensors are refused by a CheckpointError, or decode', async () => {
    const file = await fixture('hqq')
    const layer: Record<string, TensorBytes> = {}
    for (const name of file.names.filter((n) => n.startsWith('two.'))) layer[name] = await file.read(name)
    const small = Object.keys(layer).filter((n) => layer[n]!.data.byteLength < 32)
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...small),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        async (name, bytes) => {
          const { dtype, shape, data } = layer[name]!
          const changed = { dtype, shape, data: Uint8Array.from(data, (_, i) => bytes[i % 16]!) }
          const read = fromHqq(await opened({ ...layer, [name]: changed }), 'two.weight', SHAPE)
          const found = await read.catch((error: Error) => error)
          if (found instanceof Error) expect(found.name).toBe('CheckpointError')
          else expect(found!.dense().shape).toEqual([...SHAPE])
        },
      ),
      { numRuns: 200, seed: 3 },
    )
  })

  it('any matrix of a shape that its groups divide comes back from its file as it went in', () =>
    fc.assert(
      fc.asyncProperty(
        fc.constantFrom(8, 6, 5, 4, 3, 2, 1.58, 1),
        fc.constantFrom<0 | 1>(0, 1),
        fc.constantFrom<'F32' | 'F16' | 'BF16'>('F32', 'F16', 'BF16'),
        fc.integer({ min: 1, max: 4 }),
        async (bits, axis, dtype, k) => {
          const w = rng(k).normal([8 * k, 24], 0.1) as Tensor2D
          const weight = packed(hqq({ bits, axis, dtype, group: 8 }) as Codec, w)
          const file = await opened(await written(toHqq('a.weight', weight)))
          const back = (await fromHqq(file, 'a.weight', [8 * k, 24]))!
          expect(back.dense().dataSync()).toEqual(weight.dense().dataSync())
        },
      ),
      { numRuns: 60 },
    ))

  it('groups of one value, and of a range of nearly nothing, come back', () => {
    const flat = tensor(new Float32Array(128).fill(0.37), [2, 64]) as Tensor
    for (const bits of [8, 4, 2, 1]) expect(errorOf(hqq({ bits }), flat as Tensor2D), `${bits}`).toBeLessThan(1e-3)
  })
})
