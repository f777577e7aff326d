import type { Params, Tensor } from '@weftjs/spec'
import { cpu, mul, rng, sub, tensor, tensor1d, type tensor2d, wasm } from '@weftjs/tensor'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { fromCompeft, readCompeft, toCompeft } from '../src/compeft/file.ts'
import { fromRice, riceParameter, toRice } from '../src/compeft/rice.ts'
import { sweepCompeft } from '../src/compeft/sweep.ts'
import { fromTernary, kept, std, ternaryDot, ternaryEntropy, toTernary } from '../src/compeft/ternary.ts'
import { compeft } from '../src/compeft.ts'
import { bitsPerWeight } from '../src/kernels/layout.ts'
import { fixture, floats } from './fixtures.ts'

beforeAll(async () => void (await cpu()))
const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex')
const numbers = (t: Tensor): number[] => [...t.dataSync()]
const all = (params: Params): number[] =>
  Object.keys(params)
    .sort()
    .flatMap((n) => numbers(params[n]!))
const normal = (n: number, seed = 1): Float32Array => rng(seed).normal([n]).dataSync() as Float32Array
const vector = fc
  .array(fc.oneof(fc.constant(0), fc.constant(-2), fc.float({ noNaN: true, min: -9, max: 9 })), {
    minLength: 1,
    maxLength: 200,
  })
  .map((v) => Float32Array.from(v))
const share = fc.double({ min: 0.01, max: 1, noNaN: true })

describe('the ternary vector', () => {
  it('keeps the ⌊k·d⌋ largest and what is as large, all of one magnitude and of their sign', () => {
    fc.assert(
      fc.property(vector, share, (values, keep) => {
        const n = Math.floor(keep * values.length)
        const out = fromTernary(toTernary(values, { keep, magnitude: 'mean' }))
        const sizes = [...values].map(Math.abs).sort((a, b) => b - a)
        const least = n ? sizes[n - 1]! : Number.POSITIVE_INFINITY
        values.forEach((v, i) => {
          expect(Math.sign(out[i]!)).toBe(v !== 0 && Math.abs(v) >= least ? Math.sign(v) : 0)
        })
        expect(new Set(out.filter((v) => v).map(Math.abs)).size).toBeLessThanOrEqual(1)
      }),
    )
    const values = normal(1000)
    for (const keep of [0.05, 0.1, 0.3, 1]) expect(kept(toTernary(values, { keep }))).toBe(1000 * keep)
  })

  it('has α·std of all numbers, unbiased, or the mean of what is kept', () => {
    const values = Float32Array.of(1, -2, 3, 0, 8)
    expect(std(values)).toBeCloseTo(Math.sqrt((1 + 16 + 1 + 4 + 36) / 4), 6)
    expect(toTernary(values, { keep: 0.4, alpha: 2 }).scale).toBe(Math.fround(2 * Math.sqrt(14.5)))
    expect(toTernary(values, { keep: 0.4, magnitude: 'mean' }).scale).toBe(5.5)
  })

  it('with all kept, the α of least squares is mean|τ|/std', () => {
    const values = normal(2000)
    const mean = values.reduce((s, v) => s + Math.abs(v), 0) / values.length
    const error = (alpha: number): number =>
      fromTernary(toTernary(values, { keep: 1, alpha })).reduce((s, v, i) => s + (v - values[i]!) ** 2, 0)
    const best = mean / std(values)
    expect(error(best)).toBeLessThan(error(best * 1.02))
    expect(error(best)).toBeLessThan(error(best * 0.98))
  })

  it('multiplies by counting bits', () => {
    fc.assert(
      fc.property(vector, fc.nat(99), (a, seed) => {
        const b = normal(a.length, seed)
        const [x, y] = [toTernary(a, { keep: 0.6, magnitude: 'mean' }), toTernary(b, { keep: 0.5, alpha: 2 })]
        const [p, q] = [fromTernary(x), fromTernary(y)]
        const want = p.reduce((s, v, i) => s + v * q[i]!, 0)
        expect(Math.abs(ternaryDot(x, y) - want)).toBeLessThanOrEqual(1e-5 * (1 + Math.abs(want)))
      }),
    )
    expect(() => ternaryDot(toTernary(normal(4)), toTernary(normal(5)))).toThrow('4 numbers and 5')
  })
})

describe('Golomb-Rice codes', () => {
  it('have the bits that they are documented to have', () => {
    // places 1 (+), 4 (−), 7 (+): gaps 1, 2, 2; r = 1: 0·1·0, 10·0·1, 10·0·0
    const found = toTernary(Float32Array.of(0, 5, 0, 0, -5, 0, 0, 5), { keep: 3 / 8, magnitude: 'mean' })
    expect(riceParameter(3 / 8)).toBe(1)
    expect(hex(toRice(found, 1))).toBe('ca00')
  })

  it('give back the very masks, whatever r', () => {
    fc.assert(
      fc.property(vector, share, fc.nat(12), (values, keep, r) => {
        const found = toTernary(values, { keep })
        const back = fromRice(toRice(found, r), values.length, kept(found), r)
        expect([...back.plus, ...back.minus]).toEqual([...found.plus, ...found.minus])
      }),
    )
  })

  it('come within 4% of the entropy of random places', () => {
    const values = normal(200_000)
    const rows = [0.005, 0.05, 0.1, 0.2, 0.3, 0.5].map((keep) => {
      const found = toTernary(values, { keep })
      return { keep, bits: 8 * toRice(found, riceParameter(keep)).length, least: ternaryEntropy(values.length, keep) }
    })
    console.info(
      rows
        .map(
          ({ keep, bits, least }) =>
            `${keep}: ${(bits / values.length).toFixed(3)} bits a number, entropy ${(least / values.length).toFixed(3)}, ${((16 * values.length) / bits).toFixed(1)} times smaller than 16 bits`,
        )
        .join('\n'),
    )
    for (const { bits, least } of rows) {
      expect(bits / least).toBeGreaterThan(0.99)
      expect(bits / least).toBeLessThan(1.04)
    }
  })
})

describe('the file', () => {
  const params = (): Params => ({
    'blocks.0.attn.q.lora.b': rng(1).normal([12, 4]),
    'blocks.0.attn.q.lora.a': rng(2).normal([4, 33]),
    scale: rng(3).normal([7]),
    bias: rng(4).normal([]),
  })

  it('is what its description says, byte by byte', async () => {
    const w = tensor1d([0, 5, 0, 0, -5, 0, 0, 5])
    const options = { keep: 3 / 8, magnitude: 'mean' } as const
    const head = '0000a040' + '03' + '01' + '00' + '0177' + '01' + '08'
    expect(hex(await toCompeft({ w }, options))).toBe(`4350465401000100${head}0002ca00`)
    expect(hex(await toCompeft({ w }, { ...options, coding: 'masks' }))).toBe(`4350465401010000${head}00028210`)
    expect(hex(await toCompeft({ w }, { ...options, magnitude: 'own', about: 'x' }))).toBe(
      `4350465401020100${head}0178${'02ca00'}${'0000a040'.repeat(3)}`,
    )
  })

  it.each(['rice', 'masks'] as const)('%s: exactly the ternary vector comes back, under its names', async (coding) => {
    const given = params()
    for (const keep of [0.05, 0.37, 1]) {
      const file = await toCompeft(given, { keep, alpha: 3, coding, about: '{"é": 1}' })
      const { ternary, tensors, about } = readCompeft(file)
      const want = toTernary(Float32Array.from(all(given)), { keep, alpha: 3 })
      expect(ternary).toEqual(want)
      // as Node's readFile has it, within the memory of others
      const pool = Buffer.concat([Buffer.alloc(3), file])
      expect(readCompeft(pool.subarray(3)).ternary).toEqual(want)
      expect(about).toBe('{"é": 1}')
      expect(tensors.map((t) => t.name)).toEqual(Object.keys(given).sort())
      const back = fromCompeft(file)
      for (const [n, t] of Object.entries(given)) expect(back[n]!.shape).toEqual(t.shape)
      expect(all(back)).toEqual([...fromTernary(want)])
    }
  })

  it('with magnitudes of their own, what is kept is as it was', async () => {
    const given = params()
    const back = all(fromCompeft(await toCompeft(given, { keep: 0.3, magnitude: 'own' })))
    const values = all(given)
    const signs = fromTernary(toTernary(Float32Array.from(values), { keep: 0.3 }))
    expect(back).toEqual(values.map((v, i) => (signs[i] ? v : 0)))
  })

  it('the numbers of the authors, whose code keeps one more', async () => {
    const file = await fixture('compeft')
    const names = ['a.lora_A', 'a.lora_B', 'b.lora_B', 'c.scale']
    const given: Record<string, Tensor> = {}
    for (const n of names) given[n] = await floats(file, `in.${n}`)
    for (const percent of [5, 10, 20, 50]) {
      const [count] = await file.ints(`k${percent}.kept`)
      expect(count).toBe(Math.floor((267 * percent) / 100) + 1)
      for (const alpha of [1, 3]) {
        const back = fromCompeft(await toCompeft(given, { keep: (count! + 0.5) / 267, alpha }))
        for (const n of names) {
          const want = await file.floats(`k${percent}.a${alpha}.${n}`)
          numbers(back[n]!).forEach((v, i) => {
            expect(Math.abs(v - want[i]!)).toBeLessThanOrEqual(1e-6 * Math.abs(want[i]!))
          })
        }
      }
    }
  })

  it('of tuned weights it keeps the difference from their base', async () => {
    const base = { w: rng(1).normal([8, 9]) }
    const delta = mul(rng(2).normal([8, 9]), 0.01)
    const file = await toCompeft({ w: sub(base.w, mul(delta, -1)) }, { base, keep: 1, magnitude: 'own' })
    const back = numbers(fromCompeft(file, { base })['w']!)
    const want = numbers(sub(base.w, mul(delta, -1)))
    back.forEach((v, i) => {
      expect(v).toBeCloseTo(want[i]!, 6)
    })
    await expect(toCompeft({ w: base.w, v: base.w }, { base })).rejects.toThrow('v: the base has no such tensor')
    expect(() => fromCompeft(file, { base: { w: tensor1d([1]) } })).toThrow('w: the base has [1], the file [8,9]')
  })

  it('a sweep finds the pair of least loss, and leaves no tensor behind', async () => {
    const given = { w: tensor(normal(400)) }
    const want = all(fromCompeft(await toCompeft(given, { keep: 0.2, alpha: 3 })))
    const { best, rows } = await sweepCompeft(given, (p) => all(p).reduce((s, v, i) => s + (v - want[i]!) ** 2, 0))
    expect([best.keep, best.alpha, best.loss]).toEqual([0.2, 3, 0])
    expect(rows).toHaveLength(45)
    await expect(sweepCompeft(given, () => Number.NaN, { keeps: [0.1], alphas: [1] })).rejects.toThrow(
      'none of 1 pairs',
    )
  })

  it('refuses what cannot be', async () => {
    const w = tensor1d([1, 2, 3])
    await expect(toCompeft({ w }, { keep: 20 })).rejects.toThrow('at most 1, found 20; for 20% give 0.2')
    await expect(toCompeft({ w }, { keep: 0 })).rejects.toThrow('keep must be a share above 0')
    await expect(toCompeft({ w }, { keep: 0.1 })).rejects.toThrow('keep 0.1 of 3 numbers is none of them')
    await expect(toCompeft({ w }, { alpha: Number.NaN, keep: 1 })).rejects.toThrow('alpha must be a number above 0')
    await expect(toCompeft({ w: tensor1d([2, 2, 2]) }, { keep: 1 })).rejects.toThrow('standard deviation is 0')
    await expect(toCompeft({ w: tensor1d([0, 0]) }, { keep: 1 })).rejects.toThrow('the delta is all zeros')
    await expect(toCompeft({ w: tensor1d([1, Number.NaN]) }, { keep: 1 })).rejects.toThrow('w: element 1 is NaN')
  })

  it('a file that was cut anywhere, or is no file of these, is refused with its name', async () => {
    for (const options of [{}, { coding: 'masks' }, { magnitude: 'own' }] as const) {
      const file = await toCompeft(params(), { ...options, keep: 0.2 })
      for (let n = 0; n < file.length; n++)
        expect(() => readCompeft(file.subarray(0, n), { file: 'a.cpft' }), `${n} bytes`).toThrow('a.cpft')
      expect(() => readCompeft(Uint8Array.of(...file, 0))).toThrow('1 bytes follow its end')
    }
    expect(() => readCompeft(new Uint8Array(64))).toThrow('does not begin with CPFT')
  })

  it('whatever is changed in it, it is read to an end or refused, and never takes more than is allowed', async () => {
    const files = await Promise.all(
      ([{}, { coding: 'masks' }, { magnitude: 'own' }] as const).map((o) => toCompeft(params(), { ...o, keep: 0.2 })),
    )
    let refused = 0
    const byte = fc.record({ at: fc.nat(400), to: fc.nat(255) })
    fc.assert(
      fc.property(fc.constantFrom(...files), fc.array(byte, { minLength: 1, maxLength: 6 }), (file, changes) => {
        const bytes = file.slice()
        for (const { at, to } of changes) bytes[at % bytes.length] = to
        try {
          const { ternary, tensors } = readCompeft(bytes, { most: 1e6 })
          expect(ternary.length).toBeLessThanOrEqual(1e6)
          expect(all(fromCompeft(bytes, { most: 1e6 }))).toHaveLength(ternary.length)
          expect(tensors.length).toBeLessThan(bytes.length)
        } catch (error) {
          refused++
          expect((error as Error).message).toMatch(/^ComPEFT file: /)
        }
      }),
      { numRuns: 2000 },
    )
    expect(refused).toBeGreaterThan(500)
    // 2²⁷ by 2²⁷ numbers in a few bytes
    const file = await toCompeft({ w: tensor1d([1, 2]) }, { keep: 1, magnitude: 'mean' })
    const shape = [2, 0x80, 0x80, 0x80, 0x40, 0x80, 0x80, 0x80, 0x40]
    const bomb = Uint8Array.of(...file.subarray(0, 17), ...shape, ...file.subarray(19))
    expect(() => readCompeft(bomb)).toThrow(/w: \[134217728,134217728\] makes .* "most"/)
  })
})

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('the codec on %s', (_, backend) => {
  beforeAll(async () => void (await backend()))
  const w = () => rng(7).normal([40, 33]) as ReturnType<typeof tensor2d>

  it('decodes to the ternary matrix in both codings', () => {
    for (const options of [{ keep: 0.1 }, { keep: 0.3, magnitude: 'std', alpha: 2 } as const, { keep: 1 }]) {
      const want = [...fromTernary(toTernary(w().dataSync() as Float32Array, { magnitude: 'mean', ...options }))]
      for (const coding of ['rice', 'masks'] as const) {
        const codec = compeft({ ...options, coding })
        expect(numbers(codec.decode(codec.encode(w()), [40, 33]))).toEqual(want)
      }
    }
  })

  it('is made again from its options, and knows its bits where they do not depend on the numbers', () => {
    expect(compeft(compeft({ alpha: 3, magnitude: 'std' }).options).options).toEqual({
      keep: 0.1,
      magnitude: 'std',
      alpha: 3,
      coding: 'rice',
    })
    expect(bitsPerWeight(compeft({ coding: 'masks' }), [64, 64])).toBe(2 + 128 / 4096)
    expect(bitsPerWeight(compeft(), [64, 64])).toBeUndefined()
  })

  it('refuses parts that do not fit the shape', () => {
    const codec = compeft()
    const parts = codec.encode(w())
    expect(() => codec.decode(parts, [2, 2])).toThrow('compeft: count 132 is not within 0..4')
    const about = (...v: number[]): typeof parts => ({ ...parts, about: tensor1d(v, 'int32') })
    const size = parts.about.dataSync()[2]!
    expect(() => codec.decode(about(132, 3, 1e6), [40, 33])).toThrow('compeft: bytes 1000000')
    expect(() => codec.decode(about(132, -1, size), [40, 33])).toThrow('compeft: remainder -1')
    expect(() => codec.decode(about(132, 20, size), [40, 33])).toThrow('132 numbers of 22 bits or more')
    expect(() => codec.decode(about(1, 30, size), [40, 33])).toThrow(/beyond the 1320 there are/)
  })
})
