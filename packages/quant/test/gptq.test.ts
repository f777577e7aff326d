import { attach, calibrate, inputsOf, nextToken, seeing } from '@weftjs/model'
import type { Adapter, Batch, Codec, Seen, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, backprop, cpu, matMul, mul, rng, sub, tensor, tensor1d, tidy, wasm, zeros } from '@weftjs/tensor'
import type { Checkpoint } from '@weftjs/tensor/checkpoint'
import { tinyLlama } from '@weftjs/testkit'
import { dense, lowRank, packed, sum } from '@weftjs/weight'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { bitsPerWeight, type GptqOptions, gptq, nf4, quantize } from '../src/index.ts'
import { rounded, solveGptq } from '../src/solve/gptq.ts'
import { fixture } from './fixtures.ts'

beforeAll(async () => {
  await wasm()
})

const seenOf = (moment: Tensor): Seen => ({
  rows: 1,
  batches: 1,
  get: (s) => {
    if (s === 'moment') return moment
    throw new Error(`no ${s}`)
  },
})
/** E[x·xᵀ] of rows that depend on each other */
const momentOf = (n: number, rows: number, seed: number): Tensor =>
  tidy(() => {
    const x = matMul(rng(seed).normal([rows, 4]), rng(seed + 1).normal([4, n])) // [rows, n]
    const own = rng(seed + 2).normal([rows, n])
    return add(mul(matMul(own, own, true), 0.3 / rows), mul(matMul(x, x, true), 1 / rows))
  })
const identity = (n: number): Float32Array => Float32Array.from({ length: n * n }, (_, i) => Number(i % (n + 1) === 0))
/** tr(ΔW·H·ΔWᵀ) */
const lossOf = (w: Tensor2D, weight: Weight, h: ArrayLike<number>): number => {
  const [out, n] = w.shape
  const [a, b] = [w.dataSync(), weight.dense().dataSync()]
  let total = 0
  for (let o = 0; o < out; o++)
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const [d, e] = [a[o * n + i]! - b[o * n + i]!, a[o * n + j]! - b[o * n + j]!]
        total += d * h[i * n + j]! * e
      }
  return total
}
const data = (t: Tensor): Float32Array | Int32Array => t.dataSync() as Float32Array | Int32Array

const options = fc.record({
  bits: fc.constantFrom(2, 3, 4, 8),
  group: fc.constantFrom(8, 24, 48, -1),
  actOrder: fc.boolean(),
  symmetric: fc.boolean(),
  staticGroups: fc.boolean(),
}) as fc.Arbitrary<Required<GptqOptions>>

describe('laws', () => {
  it('H = I, of any size, is plain rounding', () => {
    fc.assert(
      fc.property(options, fc.integer({ min: 1, max: 40 }), fc.integer({ min: -20, max: 20 }), (o, out, size) => {
        tidy(() => {
          const w = rng(out).normal([out, 48]) as Tensor2D
          const codec = gptq(o)
          const [a, b] = [
            codec.encode(w),
            codec.encode(
              w,
              seenOf(
                tensor(
                  identity(48).map((v) => v * 2 ** size),
                  [48, 48],
                ),
              ),
            ),
          ]
          for (const [name, t] of Object.entries(a)) expect(data(b[name]!), name).toEqual(data(t))
        })
      }),
      { seed: 3, numRuns: 40 },
    )
  })

  it('the scale of H changes nothing', () => {
    tidy(() => {
      const w = rng(1).normal([20, 96]) as Tensor2D
      const h = momentOf(96, 60, 5)
      const codec = gptq({ group: 32, actOrder: true })
      const a = codec.encode(w, seenOf(h))
      const b = codec.encode(w, seenOf(mul(h, 2 ** 12)))
      for (const [name, t] of Object.entries(a)) expect(data(b[name]!), name).toEqual(data(t))
    })
  })

  it('the loss by H is no more than that of rounding', () => {
    // each choice is greedy, so a single row may come out worse; the sum over rows of a correlated H does not
    fc.assert(
      fc.property(options, fc.integer({ min: 1, max: 99 }), (o, seed) => {
        tidy(() => {
          const w = rng(seed).normal([24, 48]) as Tensor2D
          const h = momentOf(48, 64, seed)
          const codec = gptq(o) as Codec<any>
          const [plain, solved] = [packed(codec, w), packed(codec, w, seenOf(h))]
          expect(lossOf(w, solved, data(h))).toBeLessThanOrEqual(lossOf(w, plain, data(h)))
        })
      }),
      { seed: 4, numRuns: 40 },
    )
  })

  it('an order of its own decodes to where its inputs are, on every path', () => {
    tidy(() => {
      const w = rng(7).normal([10, 64]) as Tensor2D
      const h = data(momentOf(64, 40, 8))
      const solved = solveGptq(data(w), [10, 64], h, {
        ...{ bits: 4, symmetric: false, group: 16, actOrder: true, staticGroups: false, damp: 0.01 },
      })
      const order = solved.order!
      expect([...order].sort((a, b) => a - b)).toEqual([...order.keys()])
      const falling = Array.from(order.keys()).sort((a, b) => h[b * 65]! - h[a * 65]!)
      // the first group has the inputs of the largest E[x²]
      expect(new Set(order.subarray(0, 16))).toEqual(new Set(falling.slice(0, 16)))
      const weight = packed(
        gptq({ group: 16, symmetric: false, actOrder: true }) as Codec<any>,
        w,
        seenOf(tensor(h as Float32Array, [64, 64])),
      )
      const found = data(weight.dense())
      for (let o = 0; o < 10; o++)
        for (let j = 0; j < 64; j++) {
          const k = o * 4 + Math.floor(j / 16)
          const scale = data(weight.parts['scale']!)[k]!
          expect(found[o * 64 + order[j]!]).toBe(Math.fround((solved.codes[o * 64 + j]! - solved.zero[k]!) * scale))
        }
      expect(data(weight.rows!(tensor1d([3], 'int32')))).toEqual(found.slice(3 * 64, 4 * 64))
    })
  })

  it('takes bits + 32/group a weight, bits of the zeros and the order on top', () => {
    expect(bitsPerWeight(gptq(), [256, 512])).toBe(4 + 32 / 128)
    expect(bitsPerWeight(gptq({ bits: 3, symmetric: false }), [256, 512])).toBe(3 + 35 / 128)
    expect(bitsPerWeight(gptq({ actOrder: true, group: 64 }), [256, 512])).toBe(4.5 + 64 / 256)
    expect(bitsPerWeight(gptq({ actOrder: true, staticGroups: true, group: 64 }), [256, 512])).toBe(4.5)
    expect(bitsPerWeight(gptq({ actOrder: true, group: -1 }), [256, 512])).toBe(4 + 32 / 512)
  })
})

describe('as AutoGPTQ does', () => {
  const all = async (): Promise<{ file: Checkpoint; w: Float32Array; x: Int32Array; cases: Record<string, Case> }> => {
    const file = await fixture('gptq-solver')
    return {
      file,
      w: await file.floats('w'),
      x: await file.ints('x'),
      cases: JSON.parse(file.metadata['about']!).cases,
    }
  }
  interface Case {
    readonly bits: number
    readonly group: number
    readonly sym: boolean
    readonly act: boolean
    readonly static: boolean
  }
  const [N, K, ROWS] = [32, 256, 48]
  const NAMES = ['plain', 'asymmetric', 'ordered', 'static', 'rows', 'wide', 'three', 'dead']

  it.each(NAMES)('%s: the same codes, scales, zeros and groups', async (name) => {
    const { file, w, x, cases } = await all()
    const { bits, group, sym, act, static: fixed } = cases[name]!
    const h = new Float32Array(K * K)
    const dead = name === 'dead' ? [3, 100, 255] : []
    const at = (r: number, i: number): number => (dead.includes(i) ? 0 : x[r * K + i]!)
    for (let r = 0; r < ROWS; r++)
      for (let i = 0; i < K; i++) for (let j = 0; j < K; j++) h[i * K + j]! += 2 * at(r, i) * at(r, j)
    // AutoGPTQ counts an input that is always 0 as 1, in its mean too
    const diagonal = Array.from({ length: K }, (_, i) => h[i * K + i]!)
    const live = diagonal.reduce((a, b) => a + b, 0) / (K - dead.length)
    const mean = (diagonal.reduce((a, b) => a + b, 0) + dead.length) / K
    const size = group === -1 ? K : group
    const found = solveGptq(w, [N, K], h, {
      ...{ bits, symmetric: sym, group: size, actOrder: act, staticGroups: fixed, damp: (0.01 * mean) / live },
    })
    const G = K / size
    expect(found.scale).toHaveLength(N * G)
    const scale = await file.floats(`${name}.scale`)
    const zero = await file.ints(`${name}.zero`)
    const codes = await file.ints(`${name}.codes`)
    let other = 0
    for (let o = 0; o < N; o++)
      for (let j = 0; j < K; j++) {
        const column = found.order ? found.order[j]! : j
        if (found.codes[o * K + j] !== codes[o * K + column]) other++
      }
    const far = found.scale.filter((s, i) => !(Math.abs(s - scale[i]!) <= 1e-5 * scale[i]!)).length
    const moved = found.zero.filter((z, i) => z !== zero[i]).length
    if (act) {
      const groups = await file.ints(`${name}.g_idx`)
      found.order?.forEach((column, j) => {
        expect(groups[column]).toBe(Math.floor(j / size))
      })
    }
    // AutoGPTQ factors H in float32: where a weight lies between two values, it may take the other one
    expect({ other, far, moved }).toEqual({ other: 0, far: 0, moved: 0 })
  })
})

describe('on the heap, in threads', () => {
  it.each([
    ['groups in a block', 21, 200, { bits: 4, symmetric: true, group: 40, actOrder: true, staticGroups: false }],
    ['a group of blocks', 9, 300, { bits: 3, symmetric: false, group: 150, actOrder: false, staticGroups: false }],
    ['static groups', 40, 130, { bits: 8, symmetric: false, group: 13, actOrder: true, staticGroups: true }],
    ['one row, an odd width', 1, 67, { bits: 2, symmetric: false, group: 67, actOrder: false, staticGroups: false }],
  ] as const)('%s: codes, scales, zeros and order are those of the loop in JavaScript', async (_, out, n, options) => {
    const h = data(momentOf(n, n, 5)).slice()
    for (let i = 0; i < n; i++) h[7 * n + i] = h[i * n + 7] = 0 // an input that is always 0
    const w = data(rng(6).normal([out, n]))
    const solve = (): ReturnType<typeof solveGptq> => solveGptq(w, [out, n], h, { ...options, damp: 0.01 })
    const found = solve()
    await cpu()
    const plain = solve()
    await wasm()
    expect(found).toEqual(plain)
    const near = rounded(w, [out, n], options)
    expect(found.codes).not.toEqual(near.codes)
  })
})

describe('what cannot be', () => {
  const w = (): Tensor2D => rng(1).normal([4, 32]) as Tensor2D
  it('options and groups', () => {
    expect(() => gptq({ bits: 5 as never })).toThrow(/gptq: bits must be 2, 3, 4 or 8, found 5/)
    expect(() => gptq({ group: 0 })).toThrow(/gptq: group must be/)
    expect(() => gptq({ damp: 1 })).toThrow(/damp must be at least 0 and below 1, found 1/)
    expect(() => gptq().encode(w())).toThrow(/rows of 32 numbers are no multiple of the group of 128; choose group 32/)
  })
  it('statistics of another layer, that are not finite, or of no inputs', () => {
    const codec = gptq({ group: 32 })
    expect(() => codec.encode(w(), seenOf(zeros([16, 16])))).toThrow(/256 numbers, and rows of 32 need 32²/)
    const bad = identity(32)
    bad[5 * 32 + 6] = Number.NaN
    expect(() => codec.encode(w(), seenOf(tensor(bad, [32, 32])))).toThrow(/E\[x·xᵀ\] is NaN at \[5, 6\]/)
    // nothing was ever read: every weight is of no use
    expect([...data(codec.decode(codec.encode(w(), seenOf(zeros([32, 32]))), [4, 32]))].every((v) => v === 0)).toBe(
      true,
    )
  })
  it('an H with a negative direction is damped more, until that is hopeless', () => {
    const h = identity(32)
    for (const [i, j] of [
      [0, 1],
      [1, 0],
    ] as const)
      h[i * 32 + j] = 1.05
    const codec = gptq({ group: 32 })
    expect(
      [...data(codec.decode(codec.encode(w(), seenOf(tensor(h, [32, 32]))), [4, 32]))].every(Number.isFinite),
    ).toBe(true)
    for (const [i, j] of [
      [0, 1],
      [1, 0],
    ] as const)
      h[i * 32 + j] = 3
    expect(() => codec.encode(w(), seenOf(tensor(h, [32, 32])))).toThrow(
      /E\[x·xᵀ\] \[32, 32\] is not positive definite, even with 0\.\d+ of its mean diagonal added/,
    )
  })
  it('fewer rows of text than inputs are enough', () => {
    const h = momentOf(32, 3, 9)
    const found = data(gptq({ group: 32 }).decode(gptq({ group: 32 }).encode(w(), seenOf(h)), [4, 32]))
    expect([...found].every(Number.isFinite)).toBe(true)
  })
  it('a damaged order reads nothing from elsewhere', async () => {
    await cpu()
    const codec = gptq({ group: 16, actOrder: true })
    const parts = codec.encode(w())
    const odd = {
      ...parts,
      order: tensor(
        Array.from({ length: 64 }, (_, i) => (i % 2 ? -(2 ** 31) : 1e9)),
        [2, 32],
        'int32',
      ),
    }
    const found = codec.decode(odd, [4, 32]).dataSync()
    expect(found).toHaveLength(128)
    expect([...found].every(Number.isFinite)).toBe(true)
    await wasm()
  })
})

describe('a network', () => {
  const shape = { width: 64, hidden: 128, layers: 2, heads: 4, kvHeads: 2, vocabulary: 32 }
  const T = 16
  const batchOf = (start: number): Batch => ({
    shape: [2, T],
    ids: Int32Array.from({ length: 2 * T }, (_, i) => (start + i * i * 7 + i * 3) % 32),
    targets: Int32Array.from({ length: 2 * T }, (_, i) => (start + (i + 1) * (i + 1) * 7) % 32),
    positions: Int32Array.from({ length: 2 * T }, (_, i) => i % T),
    segments: new Int32Array(2 * T).fill(1),
  })
  const batches = [1, 5, 9, 14, 20, 23].map(batchOf)
  const codec = gptq({ bits: 3, group: 32, actOrder: true })

  it('needs texts, and is nearer to the whole one with them than without', async () => {
    const network = tinyLlama(rng(2), shape)
    await expect(quantize(network, codec)).rejects.toThrow(
      /blocks\.0\.attn\.q: gptq looks at what .*\(moment\); give "see"/,
    )
    const see = seeing(batches)
    const solved = await quantize(network, codec, { see })
    see.dispose()
    const { calibrates: _, ...blind } = codec
    const plain = await quantize(network, blind)
    const logits = (n: typeof network): Float32Array =>
      attach(n, [], rng(0)).forward({}, inputsOf(batches[2]!)).logits.dataSync() as Float32Array
    const whole = logits(network)
    const gap = (n: typeof network): number => Math.hypot(...logits(n).map((v, i) => v - whole[i]!))
    expect(gap(solved)).toBeLessThan(0.9 * gap(plain))
    expect(solved.weights['blocks.1.mlp.down']!.format).toBe('gptq')
  })

  it('each stage saw what was quantized before it', async () => {
    const network = tinyLlama(rng(2), shape)
    const seen: string[] = []
    const small = await quantize(network, codec, {
      see: async (now, names, { calibrates }) => {
        seen.push(names.join(' '))
        for (const [name, w] of Object.entries(now.weights as typeof network.weights))
          if (name.startsWith('blocks.0.attn.q')) expect(w.format).toBe(seen.length > 1 ? 'gptq' : 'dense')
        return calibrate(now, batches, { statistics: calibrates!, at: names })
      },
    })
    expect(seen.slice(0, 4)).toEqual([
      'blocks.0.attn.q blocks.0.attn.k blocks.0.attn.v',
      'blocks.0.attn.o',
      'blocks.0.mlp.gate blocks.0.mlp.up',
      'blocks.0.mlp.down',
    ])
    const see = seeing(batches)
    const streamed = await quantize(network, codec, { see })
    see.dispose()
    for (const [name, { parts }] of Object.entries(small.weights)) {
      const [a, b] = [
        data(parts['q'] ?? parts['weight']!),
        data((streamed.weights[name]!.parts['q'] ?? streamed.weights[name]!.parts['weight'])!),
      ]
      const other = Array.from(a).filter((v, i) => v !== b[i]).length
      expect(other / a.length, name).toBeLessThan(0.01) // sums in another order, and a weight between two values
    }
  })

  it('errors of the codec name the weight', async () => {
    const network = tinyLlama(rng(2), shape)
    await expect(quantize(network, gptq({ group: 48 }), { see: seeing(batches) })).rejects.toThrow(
      /^blocks\.0\.attn\.q: gptq: rows of 64 numbers are no multiple of the group of 48/,
    )
    await expect(
      quantize(network, (name) => (name.includes('attn') ? nf4() : gptq({ group: 32 })) as Codec<any>, {
        see: async () => ({}),
      }),
    ).rejects.toThrow(/^blocks\.0\.mlp\.gate: the calibration pass did not reach it/)
  })

  /** LoRA in its shortest form: no family imports another, its tests included */
  const adapter: Adapter = {
    name: 'low-rank',
    init: ({ in: input, out }, { rng }) => ({ state: { a: rng.normal([4, input], 0.1), b: zeros([out, 4]) } }),
    weight: (base, { a, b }) => sum(base, lowRank(b as Tensor2D, a as Tensor2D)),
  }
  it('LoRA trains on it as on the decoded one, and folds into the same format by plain rounding', async () => {
    const network = tinyLlama(rng(2), shape)
    const see = seeing(batches)
    const small = await quantize(network, codec, { see })
    see.dispose()
    const plain = {
      ...small,
      weights: Object.fromEntries(Object.entries(small.weights).map(([n, w]) => [n, dense(w.dense())])),
    }
    const at = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
    const [tuned, same] = [small, plain].map((n) => attach(n, [{ adapter, at }], rng(3)))
    const step = (t: NonNullable<typeof tuned>, params: typeof t.params, i: number) =>
      backprop((p) => nextToken(t.run(p, inputsOf(batches[i]!)), batches[i]!), params)
    let [p, q] = [tuned!.params, same!.params]
    const losses: number[] = []
    for (let i = 0; i < 30; i++) {
      const [a, b] = [step(tuned!, p, i % 6), step(same!, q, i % 6)]
      expect(a.loss.dataSync()[0]).toBeCloseTo(b.loss.dataSync()[0]!, 3)
      losses.push(a.loss.dataSync()[0]!)
      const down = (params: typeof p, grads: typeof p): typeof p =>
        Object.fromEntries(Object.entries(params).map(([n, t]) => [n, sub(t, mul(grads[n]!, 0.3))]))
      p = down(p, a.grads)
      q = down(q, b.grads)
    }
    const mean = (v: number[]): number => v.reduce((x, y) => x + y, 0) / v.length
    expect(mean(losses.slice(-6))).toBeLessThan(mean(losses.slice(0, 6)) - 0.3)
    const folded = tuned!.fold(p)
    const before = small.weights['blocks.0.attn.q']!
    const after = folded.weights['blocks.0.attn.q']!
    expect(after.format).toBe('gptq')
    const wanted = add(
      before.dense(),
      matMul(p['blocks.0.attn.q.low-rank.b']!, p['blocks.0.attn.q.low-rank.a']!),
    ) as Tensor2D
    const parts = codec.encode(wanted)
    for (const [name, t] of Object.entries(parts)) expect(data(after.parts[name]!), name).toEqual(data(t))
  })
})

it('rounds as the grid says', () => {
  const { codes, scale, zero } = rounded([-0.7, 0.2, 0.05, 0.7], [1, 4], { bits: 4, symmetric: true, group: 4 })
  // 1.4/15; −7.5 and 7.5 are halves, which go to −8 and 8
  expect(scale[0]).toBe(Math.fround(Math.fround(1.4) / 15))
  expect([...codes, ...zero]).toEqual([0, 10, 9, 15, 8])
  const uneven = rounded([-0.5, 1, 0.25, 0], [1, 4], { bits: 2, symmetric: false, group: 4 })
  expect([uneven.scale[0], ...uneven.zero, ...uneven.codes]).toEqual([0.5, 1, 0, 3, 1, 1])
})
