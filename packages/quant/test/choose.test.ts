import type { Codec, Seen, Tensor2D } from '@weftjs/spec'
import { cpu, matMul, memory, mul, rng, sub, sum, tensor2d, tidy } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import {
  affine,
  bitsPerWeight,
  gptq,
  int8,
  mixed,
  mostSensitive,
  nf4,
  quantize,
  type See,
  type Sensitivity,
  sensitivity,
} from '../src/index.ts'

beforeAll(async () => {
  await cpu()
})
const two = affine({ bits: 2, group: 8 }) as Codec
const four = affine({ bits: 4, group: 8 }) as Codec
const AT = 'blocks.*.mlp.*'

describe('sensitivity', () => {
  it('is the error of each matrix alone, in itself or in what it gives', async () => {
    const network = tinyLlama(rng(1))
    const x = rng(2).normal([50, 16])
    const moment = mul(matMul(x, x, true), 1 / 50) as Tensor2D
    const seen: Seen = { rows: 50, batches: 1, get: () => moment }
    const name = 'blocks.0.mlp.up'
    const w = network.weights[name]!.dense()
    const d = sub(two.decode(two.encode(w), w.shape), w) as Tensor2D
    const squares = Array.from(d.dataSync()).reduce((s, v) => s + v * v, 0)
    const [plain] = await sensitivity(network, two, { at: name })
    expect(plain!.loss).toBeCloseTo(squares / (16 * 24), 8)
    expect(plain).toMatchObject({ name, weights: 384, bits: bitsPerWeight(two, [24, 16]) })
    const [output] = await sensitivity(network, two, { at: name, seen: { [name]: seen } })
    const y = matMul(x, d, false, true)
    expect(output!.loss).toBeCloseTo(sum(mul(y, y)).dataSync()[0]! / 50 / 24, 6)
    const [share] = await sensitivity(network, two, { at: name, relative: true })
    expect(share!.loss).toBeCloseTo(squares / Array.from(w.dataSync()).reduce((s, v) => s + v * v, 0), 6)
  })

  it('or, by squares of gradients, half of what the loss rises by to second order', async () => {
    const network = tinyLlama(rng(1))
    const name = 'blocks.0.mlp.up'
    const w = network.weights[name]!.dense()
    const fisher = rng(3).uniform([...w.shape])
    const seen: Seen = { rows: 0, batches: 1, get: () => fisher }
    const d = Array.from(sub(two.decode(two.encode(w), w.shape), w).dataSync())
    const F = fisher.dataSync()
    const [found] = await sensitivity(network, two, { at: name, by: 'fisher', seen: { [name]: seen } })
    expect(found!.loss).toBeCloseTo(
      d.reduce((s, v, i) => s + (F[i]! * v * v) / 2, 0),
      6,
    )
    await expect(sensitivity(network, two, { at: AT, by: 'fisher', seen: { [name]: seen } })).rejects.toThrow(
      'blocks.0.mlp.gate: no gradient was seen there',
    )
  })
  it('and where inputs go together, errors that make each other good cost little', async () => {
    const network = tinyLlama(rng(1))
    const name = 'blocks.0.mlp.up'
    const w = network.weights[name]!.dense()
    const [out, n] = w.shape
    const fisher = rng(3).uniform([out, n]) as Tensor2D
    // inputs of which some do as their neighbours do, and one is never there
    const x = tensor2d(
      rng(2)
        .normal([40, n])
        .dataSync()
        .map((v, i, all) => (i % n === 5 ? 0 : i % 2 ? v + 0.9 * all[i - 1]! : v)),
      [40, n],
    )
    const moment = mul(matMul(x, x, true), 1 / 40) as Tensor2D
    const both: Seen = { rows: 40, batches: 1, get: (s) => (s === 'fisher' ? fisher : moment) }
    const asked: unknown[] = []
    const see: See = async (net, names, _, statistics) => {
      expect(net).toBe(network)
      asked.push(names, statistics)
      return Object.fromEntries(names.map((key) => [key, both]))
    }
    const d = Array.from(sub(two.decode(two.encode(w), w.shape), w).dataSync())
    const [F, M] = [fisher.dataSync(), moment.dataSync()]
    const correlation = (i: number, j: number): number => {
      const size = Math.sqrt(M[i * n + i]! * M[j * n + j]!)
      return size && M[i * n + j]! / size
    }
    let wanted = 0
    for (let r = 0; r < out; r++)
      for (let i = 0; i < n; i++)
        for (let j = 0; j < n; j++) {
          const [a, b] = [r * n + i, r * n + j]
          wanted += (Math.sqrt(F[a]! * F[b]!) * d[a]! * d[b]! * correlation(i, j)) / 2
        }
    const [found] = await sensitivity(network, two, { at: name, by: 'fisher', see })
    expect(found!.loss / wanted).toBeCloseTo(1, 4)
    expect(asked).toEqual([[name], ['moment', 'fisher']])
    // GPTQ makes its errors good by later inputs, and is told by that from rounding on the same grid
    const solved = gptq({ bits: 2, group: 8, symmetric: false }) as Codec
    const diagonal = await sensitivity(network, [two, solved], { at: name, by: 'fisher', seen: { [name]: both } })
    const whole = await sensitivity(network, [two, solved], { at: name, by: 'fisher', see })
    const share = ([plain, other]: readonly Sensitivity[]): number => other!.loss / plain!.loss
    expect(share(whole)).toBeLessThan(0.8 * share(diagonal))
    expect(share(whole)).toBeLessThan(1)
  })
  it('shows codecs that calibrate what their matrices read, a stage at a time', async () => {
    const network = tinyLlama(rng(1))
    const solved = gptq({ bits: 2, group: 8 }) as Codec
    const stages: (readonly string[])[] = []
    const see: See = async (_, names) => {
      stages.push(names)
      return Object.fromEntries(
        names.map((name) => {
          const n = network.weights[name]!.shape[1]
          const moment = tidy(() => {
            const x = rng(7).fork(name).normal([60, n])
            return mul(matMul(x, x, true), 1 / 60)
          })
          return [name, { rows: 60, batches: 1, get: () => moment } satisfies Seen]
        }),
      )
    }
    const before = memory().numTensors
    const found = await sensitivity(network, [four, solved], { see, by: 'moment' })
    expect(memory().numTensors - before).toBe(14) // what this `see` makes is its own
    expect(stages.map((s) => s.length)).toEqual([3, 1, 2, 1, 3, 1, 2, 1])
    expect(found.filter((f) => f.codec === solved)).toHaveLength(14)
    // one that asks for nothing is not shown anything
    await sensitivity(network, four, { see, at: AT })
    expect(stages).toHaveLength(8)
    const choose = mixed({ measured: found, bits: 7 })
    expect(new Set(choose.table.map((t) => t.codec)).size).toBe(2)
    const small = await quantize(network, choose, { see })
    for (const { name, codec } of choose.table) expect(small.weights[name]!.codec).toBe(codec)
    await expect(sensitivity(network, solved, { at: AT })).rejects.toThrow(
      'blocks.0.mlp.gate: gptq looks at what the layer reads (moment); give "see"',
    )
    await expect(sensitivity(network, solved, { at: AT, see: async () => ({}) })).rejects.toThrow(
      'blocks.0.mlp.gate: the calibration pass did not reach it',
    )
  })
  it('or whatever a measure says of a network with that matrix packed, less what it says of the whole', async () => {
    const network = tinyLlama(rng(1))
    const asked: (string | undefined)[] = []
    const found = await sensitivity(network, [two, four], {
      at: AT,
      measure: (net, name) => {
        asked.push(name)
        const packed = Object.entries(net.weights).filter(([, w]) => w.format !== 'dense')
        expect(packed.map(([n]) => n)).toEqual(name ? [name] : [])
        return 3 + packed.reduce((n, [, w]) => n + w.shape[0], 0)
      },
    })
    expect(found).toHaveLength(12)
    expect(asked[0]).toBeUndefined()
    expect(found.find((f) => f.name === 'blocks.1.mlp.down')!.loss).toBe(16)
    expect(found.find((f) => f.name === 'blocks.1.mlp.up')!.loss).toBe(24)
  })

  it('leaves nothing behind, and leaves out formats that cannot take a matrix', async () => {
    const network = tinyLlama(rng(1))
    const before = memory().numTensors
    const found = await sensitivity(network, [affine({ bits: 4, group: 24 }), four], { at: AT })
    expect(memory().numTensors).toBe(before)
    expect(found.filter((f) => f.codec !== four).map((f) => f.name)).toEqual(['blocks.0.mlp.down', 'blocks.1.mlp.down'])
    await expect(sensitivity(network, affine({ bits: 4, group: 24 }), { at: AT })).rejects.toThrow(
      /blocks.0.mlp.gate: none of affine takes \[24,16\]/,
    )
    await expect(sensitivity(network, four, { at: 'nothing' })).rejects.toThrow('0 weights match')
    await expect(sensitivity(network, four, { at: AT, measure: () => Number.NaN })).rejects.toThrow(
      'the whole network: the measure is NaN',
    )
    const stop = AbortSignal.abort(new Error('enough'))
    await expect(sensitivity(network, four, { at: AT, signal: stop })).rejects.toThrow('enough')
  })

  it('names the most sensitive', () => {
    const of = (name: string, loss: number): Sensitivity => ({ name, codec: two, loss, bits: 2, weights: 1 })
    const measured = [of('a', 1), of('b', 5), of('a', 7), of('c', 2), of('d', 0)]
    expect(mostSensitive(measured, 0.5)).toEqual(['a', 'b'])
    expect(mostSensitive(measured, 0.01)).toEqual(['a'])
    expect(() => mostSensitive(measured, 0)).toThrow('share must be in (0, 1], found 0')
  })
})

describe('mixed', () => {
  const codecs = [two, affine({ bits: 3, group: 8 }) as Codec, four, int8() as Codec]
  const measuredOf = (losses: readonly (readonly number[])[], weights: readonly number[]): Sensitivity[] =>
    losses.flatMap((list, i) =>
      list.map((loss, j) => ({ name: `w${i}`, codec: codecs[j]!, loss, bits: [2, 3, 4, 8][j]!, weights: weights[i]! })),
    )
  /** the least loss of all choices */
  const least = (losses: readonly (readonly number[])[], weights: readonly number[], bits: number): number => {
    const total = weights.reduce((a, b) => a + b, 0)
    const from = (i: number, left: number): number =>
      i === losses.length
        ? 0
        : Math.min(
            ...losses[i]!.map((loss, j) =>
              left >= [2, 3, 4, 8][j]! * weights[i]!
                ? loss + from(i + 1, left - [2, 3, 4, 8][j]! * weights[i]!)
                : Number.POSITIVE_INFINITY,
            ),
          )
    return from(0, bits * total)
  }

  it('keeps to its budget, and is off the best of all choices by no more than one step', () =>
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.array(fc.double({ min: 0.01, max: 10, noNaN: true }), { minLength: 4, maxLength: 4 }),
            fc.constantFrom(1, 2, 5),
          ),
          { minLength: 1, maxLength: 5 },
        ),
        fc.double({ min: 2, max: 8.5, noNaN: true }),
        (items, bits) => {
          const losses = items.map(([list]) => [...list].sort((a, b) => b - a))
          const weights = items.map(([, n]) => n)
          const found = mixed({ measured: measuredOf(losses, weights), bits })
          expect(found.bits).toBeLessThanOrEqual(bits * (1 + 1e-9))
          const best = least(losses, weights, bits)
          expect(found.loss).toBeGreaterThanOrEqual(best - 1e-9)
          const step = Math.max(...losses.map((list) => list[0]! - list.at(-1)!))
          expect(found.loss).toBeLessThanOrEqual(best + step + 1e-9)
        },
      ),
      { numRuns: 200 },
    ))
  it('is the best of all where the budget ends with a step', () => {
    const losses = [
      [8, 4, 2, 1],
      [80, 20, 5, 1],
      [3, 2.9, 2.8, 0.1],
    ]
    for (const bits of [2, 7 / 3, 8 / 3, 3, 10 / 3]) {
      const found = mixed({ measured: measuredOf(losses, [1, 1, 1]), bits })
      expect(found.loss, String(bits)).toBeCloseTo(least(losses, [1, 1, 1], bits), 9)
    }
    const { table } = mixed({ measured: measuredOf(losses, [1, 1, 1]), bits: 10 / 3 })
    expect(table.map(({ name, bits }) => [name, bits])).toEqual([
      ['w0', 4],
      ['w1', 4],
      ['w2', 2],
    ])
  })
  it('packs a network by rules and by what was measured', async () => {
    const network = tinyLlama(rng(3))
    const measured = await sensitivity(network, codecs, { at: 'blocks.**' })
    const choose = mixed({
      rules: [
        ['blocks.0.attn.*', nf4({ block: 32 })],
        ['blocks.*.attn.o', null],
      ],
      measured,
      bits: 6.5,
    })
    const small = await quantize(network, choose)
    expect(small.weights['blocks.0.attn.q']!.format).toBe('nf4')
    expect(small.weights['blocks.1.attn.o']!.format).toBe('dense')
    expect(choose.table.map((t) => t.name)).not.toContain('blocks.1.attn.o')
    let [bits, weights] = [0, 0]
    for (const { name, codec } of choose.table) {
      const w = small.weights[name]!
      expect(w.codec).toBe(codec)
      bits += 32 * Object.values(w.parts).reduce((n, t) => n + t.size, 0)
      weights += w.shape[0] * w.shape[1]
    }
    expect(bits / weights).toBeCloseTo(choose.bits, 6)
    expect(choose.bits).toBeLessThanOrEqual(6.5)
    expect(new Set(choose.table.map((t) => t.codec)).size).toBeGreaterThan(1)
  })
  it('loses less than one format for all of the same size', async () => {
    const margins = await Promise.all(
      [1, 2, 3].map(async (seed) => {
        const network = tinyLlama(rng(seed))
        const measured = await sensitivity(network, [two, codecs[1]!, four], { at: 'blocks.**' })
        const even = measured.filter((m) => m.codec === codecs[1])
        const loss = even.reduce((n, m) => n + m.loss, 0)
        const found = mixed({
          measured,
          bits: even.reduce((n, m) => n + m.bits * m.weights, 0) / even.reduce((n, m) => n + m.weights, 0),
        })
        expect(found.loss).toBeLessThanOrEqual(loss)
        return [loss, found.loss].map((v) => +v.toFixed(4))
      }),
    )
    console.info('squared error with 3 bits for all, and mixed', JSON.stringify(margins))
  })
  it('what cannot be is said', () => {
    const measured = measuredOf([[1, 1, 1, 1]], [1])
    expect(() => mixed({ measured, bits: 1.5 })).toThrow(
      'the smallest formats take 2.000 bits a weight, the budget is 1.5',
    )
    expect(() => mixed({ measured })).toThrow('bits must be above 0')
    expect(() => mixed({})).toThrow('nothing to choose by')
    expect(() => mixed({ measured: [{ ...measured[0]!, loss: Number.NaN }], bits: 3 })).toThrow(
      'w0: in affine it loses NaN',
    )
    expect(mixed({ otherwise: two })('x')).toBe(two)
  })
})
