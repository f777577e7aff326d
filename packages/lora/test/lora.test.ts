import { attach, sitesOf } from '@weftjs/model'
import { add, countParams, cpu, mapParams, ones, rng, type Tensor, tensor, zeros } from '@weftjs/tensor'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { packed } from '@weftjs/weight'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lora } from '../src/index.ts'
import { exactly, patterned, pythonRegExp } from '../src/shared/pattern.ts'
import { distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const logits = (tuned: ReturnType<typeof attach>, params = tuned.params, options = {}): Tensor =>
  tuned.forward(params, { ids }, options).logits

describe('lora', () => {
  it('changes no logit at the start, whatever its options', async () => {
    const plain = await logits(attach(network, [], rng(0))).data()
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          rank: fc.integer({ min: 1, max: 8 }),
          alpha: fc.float({ min: 0.5, max: 64, noNaN: true }),
          rslora: fc.boolean(),
          init: fc.constantFrom('kaiming' as const, 'gaussian' as const),
          loraBias: fc.boolean(),
        }),
        fc.integer({ min: 0, max: 1000 }),
        async (options, seed) => {
          const tuned = attach(network, [{ adapter: lora(options), at: ['**.{q,v}', 'head', '**.mlp.*'] }], rng(seed))
          expect(distance(await logits(tuned).data(), plain)).toBe(0)
        },
      ),
      { numRuns: 12 },
    )
  })

  it('adds (α/r)·B·A to each matrix, or (α/√r)·B·A', async () => {
    for (const rslora of [false, true]) {
      const tuned = attach(network, [{ adapter: lora({ rank: 4, alpha: 6, rslora }), at: 'blocks.0.mlp.up' }], rng(1))
      const b = rng(2).normal([24, 4])
      const params = { ...tuned.params, 'blocks.0.mlp.up.lora.b': b }
      const [w, after] = [network.weights, tuned.fold(params).weights].map((ws) => ws['blocks.0.mlp.up']!.dense())
      const [x, y] = [await w!.data(), await after!.data()]
      const a = await tuned.params['blocks.0.mlp.up.lora.a']!.data()
      const bs = await b.data()
      const factor = rslora ? 6 / Math.sqrt(4) : 6 / 4
      const want = Array.from(x, (v, i) => {
        const [o, n] = [Math.floor(i / 16), i % 16]
        return v + factor * [0, 1, 2, 3].reduce((s, r) => s + bs[o * 4 + r]! * a[r * 16 + n]!, 0)
      })
      expect(distance(y, want)).toBeLessThan(1e-5)
    }
  })

  it('adapts an embedding by rows, tied or not', async () => {
    for (const tied of [false, true]) {
      const net = tinyLlama(rng(3), { tied })
      const tuned = attach(net, [{ adapter: lora({ rank: 2 }), at: 'embed' }], rng(1))
      const params = mapParams(tuned.params, (p, n) => add(p, rng(4).fork(n).normal(p.shape, 0.1)))
      expect(tuned.params['embed.lora.b']!.shape).toEqual([24, 2])
      const folded = attach(tuned.fold(params), [], rng(0))
      expect(distance(await logits(tuned, params).data(), await logits(folded, {}).data())).toBeLessThan(1e-4)
      const head = tuned.fold(params).weights['head'] ?? net.weights['embed']!
      if (tied) expect(distance(await head.dense().data(), await net.weights['embed']!.dense().data())).toBe(0)
    }
  })

  it('counts r·(in + out) numbers for each site, by the patterns', () => {
    const tuned = attach(
      network,
      [{ adapter: lora({ rank: 2, rankPattern: { 'attn\\.q': 5, '1\\.attn\\.v': 3 } }), at: 'blocks.*.attn.{q,v}' }],
      rng(0),
    )
    expect(countParams(tuned.params)).toBe(2 * 5 * 32 + (2 + 3) * (16 + 8))
  })

  it('drops inputs of the update only, only while training, with the share and scale it says', async () => {
    // W = 0, A and B of ones: the update is the sum of the inputs that are left, times 1/(1 − p)
    const p = 0.3
    const adapter = lora({ rank: 1, dropout: p })
    const site = { name: 'x', kind: 'linear' as const, layer: 0, in: 400, out: 1 }
    const base = {
      shape: [1, 400] as const,
      parts: {},
      apply: () => zeros([50, 1]),
      dense: () => zeros([1, 400]) as never,
    }
    const state = { a: ones([1, 400]) as never, b: ones([1, 1]) as never }
    const context = { site, inputs: {}, inner: [], shared: {}, scratch: new Map(), penalty: () => {} }
    const run = async (training: boolean, seed = 0): Promise<ArrayLike<number>> =>
      adapter.weight!({ ...base, like: () => base as never } as never, state, { ...context, training, rng: rng(seed) })
        .apply(ones([50, 400]))
        .data()
    expect([...(await run(false).then(Array.from))]).toEqual(Array(50).fill(400))
    const sums = Array.from(await run(true))
    const mean = sums.reduce((a, b) => a + b) / 50
    // 20,000 inputs: the standard error of the mean is 400·√(p/(1−p)/20000) = 1.9
    expect(Math.abs(mean - 400)).toBeLessThan(6)
    const kept = (sums[0]! * (1 - p)).toFixed(3)
    expect(Number(kept)).toBeCloseTo(Math.round(Number(kept)), 2)
    const spread = Math.sqrt(sums.reduce((s, v) => s + (v - mean) ** 2, 0) / 49)
    expect(spread).toBeGreaterThan(8)
    expect(spread).toBeLessThan(19) // 400·√(p/(1−p)/400) = 13
    expect(distance(await run(true), sums)).toBe(0)
    expect(distance(await run(true, 1), sums)).toBeGreaterThan(0)
  })

  it('trains on a packed base, which keeps its bytes', async () => {
    const base = tinyLlama(rng(5), { keep: (w) => packed(toyCodec(), w) })
    const tuned = attach(base, [{ adapter: lora({ rank: 2 }), at: '**.{q,v}' }], rng(0))
    const params = mapParams(tuned.params, (p, n) => add(p, rng(6).fork(n).normal(p.shape, 0.3)))
    const folded = tuned.fold(params)
    expect(folded.weights['blocks.0.attn.q']!.format).toBe('toy')
    expect(folded.weights['blocks.0.attn.k']).toBe(base.weights['blocks.0.attn.k'])
    const [a, b] = [await logits(tuned, params).data(), await logits(attach(folded, [], rng(0)), {}).data()]
    const gap = distance(a, b)
    expect(gap).toBeGreaterThan(0) // 8 bits hold W + ΔW less exactly than a sum does
    expect(gap).toBeLessThan(0.2)
  })

  it('says what is wrong with its options and where', () => {
    const at =
      (options: object, where = 'blocks.0.attn.v') =>
      () =>
        attach(network, [{ adapter: lora(options), at: where }], rng(0))
    expect(at({ rank: 9 })).toThrow('blocks.0.attn.v: rank 9 exceeds min(8, 16); lower rank or narrow "at"')
    expect(at({ rank: 0 })).toThrow('blocks.0.attn.v: rank must be a whole number of at least 1, found 0')
    expect(at({ rank: 2.5 })).toThrow('found 2.5')
    expect(at({ dropout: 1 })).toThrow('lora: dropout must be in [0, 1), found 1')
    expect(at({ rankPattern: { '(': 2 } })).toThrow('lora: rankPattern["("]: "(" is not a regular expression')
    expect(at({}, 'blocks.0.norm1')).toThrow("blocks.0.norm1 (norm) has no weight for 'lora' to adapt")
    expect(at({ alpha: Number.NaN })).toThrow('lora: alpha must be a number, found NaN')
  })

  it('leaves the sites of the network as they were', () => {
    const before = sitesOf(network).map((s) => s.weight)
    attach(network, [{ adapter: lora(), at: '**.{q,v}' }], rng(0))
    expect(sitesOf(network).map((s) => s.weight)).toEqual(before)
  })
})

describe('patterns', () => {
  it.each([
    ['q_proj', 'model.layers.0.self_attn.q_proj', true],
    ['q_proj', 'model.layers.0.self_attn.xq_proj', false],
    ['self_attn.q_proj', 'model.layers.0.self_attn.q_proj', true],
    ['.*\\.1\\..*', 'model.layers.1.mlp.up_proj', true],
    ['.*\\.1\\..*', 'model.layers.11.mlp.up_proj', false],
    ['^model\\.layers\\.0', 'model.layers.0', true],
    ['^layers\\.0', 'model.layers.0', false],
    ['(?i)Q_PROJ', 'a.q_proj', true],
    ['(?P<x>q)_(?P=x)', 'a.q_q', true],
    ['q_proj\\Z', 'a.q_proj', true],
    ['q|v', 'a.v', true],
    ['(q)\\3', 'a.qq', true],
  ])('%s on %s: %s', (pattern, name, want) => {
    expect(patterned({ [pattern]: 1 }, 'p')(name) === 1).toBe(want)
  })

  it('an exact pattern matches its name and no other', () => {
    const part = fc.string({ minLength: 1, maxLength: 6 }).filter((s) => !/[\n\r\u2028\u2029]/.test(s))
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 3 }), part, (parts, other) => {
        const name = parts.join('.')
        const find = patterned({ [exactly(name)]: 1 }, 'p')
        expect(find(name)).toBe(1)
        expect(find(`${other}.${name}`)).toBeUndefined()
        expect(find(`${name}${other}`)).toBeUndefined()
      }),
    )
  })

  it('says which flag it does not know', () => {
    expect(() => pythonRegExp('(?x) a', (s) => s, 'here')).toThrow(
      'here: "(?x) a" is not a regular expression (the flag \'x\'',
    )
  })
})
