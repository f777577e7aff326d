import { attach, initNetwork } from '@weftjs/model'
import { add, backprop, countParams, cpu, eye, mapParams, mul, rng, sum, type Tensor2D } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { flora, trainable } from '../src/flora.ts'
import { tucker } from '../src/shared/tucker.ts'
import { distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const name = 'blocks.0.mlp.up'

describe('tucker', () => {
  it.each([[[3, 2]], [[2, 3, 2]], [[2, 3, 2, 2]], [[2, 2, 1, 2, 2]]])(
    'sums over every entry of a core %j',
    async (ranks) => {
      const sizes = [4, 5, 3, 2, 3].slice(0, ranks.length)
      const g = rng(1).normal(ranks)
      const factors = ranks.map((r, m) => rng(2).fork(m).normal([sizes[m]!, r]) as Tensor2D)
      const [core, us] = [await g.data(), await Promise.all(factors.map((f) => f.data()))]
      const split = (i: number, shape: number[]): number[] =>
        shape.map((_, m) => Math.floor(i / shape.slice(m + 1).reduce((a, b) => a * b, 1)) % shape[m]!)
      const entries = (shape: number[]): number => shape.reduce((a, b) => a * b, 1)
      const want = Array.from({ length: entries(sizes) }, (_, i) => {
        const at = split(i, sizes)
        let total = 0
        for (let c = 0; c < entries(ranks); c++)
          total += core[c]! * split(c, ranks).reduce((p, r, m) => p * us[m]![at[m]! * ranks[m]! + r]!, 1)
        return total
      })
      const found = tucker(g, factors)
      expect(found.shape).toEqual(sizes)
      expect(distance(await found.data(), want)).toBeLessThan(1e-4)
    },
  )

  it('refuses factors that do not fit', () => {
    expect(() => tucker(rng(0).normal([2, 2]), [eye(2)])).toThrow('a core of 2 modes and 1 factors')
    expect(() => tucker(rng(0).normal([2, 2]), [eye(2), eye(3)])).toThrow(
      'mode 1 of the core has 2 entries, its factor is [3,3]',
    )
  })
})

describe('flora', () => {
  it('adds s·U_out·Gᵀ·U_inᵀ, which is tucker of the modes in and out, transposed', async () => {
    const tuned = attach(network, [{ adapter: flora({ rank: [3, 5], scale: 0.5 }), at: name }], rng(1))
    const params = mapParams(tuned.params, (p, n) => add(p, rng(2).fork(n).normal(p.shape)))
    const of = (key: string) => params[`${name}.flora.${key}`]!
    const delta = await tucker(of('g'), [of('input'), of('output')] as Tensor2D[]).data() // [16, 24]
    const w = await network.weights[name]!.dense().data()
    const want = Array.from(w, (v, i) => v + 0.5 * delta[(i % 16) * 24 + Math.floor(i / 16)]!)
    expect(distance(await tuned.fold(params).weights[name]!.dense().data(), want)).toBeLessThan(1e-5)
  })

  it('with the identity for a core is LoRA', async () => {
    const tuned = attach(network, [{ adapter: flora({ rank: 4, scale: 2 }), at: name }], rng(1))
    const [a, b] = [rng(3).normal([16, 4]), rng(4).normal([24, 4])]
    const params = { [`${name}.flora.g`]: eye(4), [`${name}.flora.input`]: a, [`${name}.flora.output`]: b }
    const [w, as, bs] = await Promise.all([network.weights[name]!.dense(), a, b].map((t) => t.data()))
    const want = Array.from(w!, (v, i) => {
      const [o, n] = [Math.floor(i / 16), i % 16]
      return v + 2 * [0, 1, 2, 3].reduce((s, r) => s + bs![o * 4 + r]! * as![n * 4 + r]!, 0)
    })
    expect(distance(await tuned.fold(params).weights[name]!.dense().data(), want)).toBeLessThan(1e-5)
  })

  it('moves only its core in the first step, and draws factors of deviation √(½/r)', async () => {
    const tuned = attach(network, [{ adapter: flora({ rank: 8 }), at: '**.{up,down}' }], rng(1))
    const { grads } = backprop(
      (p) => sum(mul(tuned.fold(p).weights[name]!.dense(), rng(5).normal([24, 16]))),
      tuned.params,
    )
    for (const key of ['input', 'output'])
      expect((await grads[`${name}.flora.${key}`]!.data()).every((v) => v === 0)).toBe(true)
    expect((await grads[`${name}.flora.g`]!.data()).some((v) => v !== 0)).toBe(true)
    const all = Object.entries(tuned.params).flatMap(([n, t]) => (n.endsWith('.g') ? [] : [...t.dataSync()]))
    const deviation = Math.sqrt(all.reduce((s, v) => s + v * v, 0) / all.length)
    expect(Math.abs(deviation / Math.sqrt(0.5 / 8) - 1)).toBeLessThan(0.1) // 1280 draws: 2 %
  })

  it('keeps the modes of a convolution: the patch embedding of a ViT', async () => {
    const source = {
      ...{ model_type: 'vit', hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 12 },
      ...{ image_size: 8, patch_size: 4, num_channels: 3 },
    }
    const vit = initNetwork(source, rng(0))
    const options = { rank: [2, 5, 3, 4], kernel: [3, 4, 4] as const, scale: 1 }
    const tuned = attach(vit, [{ adapter: flora(options), at: 'embed' }], rng(1))
    expect(countParams(tuned.params)).toBe(3 * 2 + 8 * 5 + 4 * 3 + 4 * 4 + 2 * 5 * 3 * 4)
    const pixels = rng(2).normal([2, 3, 8, 8])
    const hidden = (t: typeof tuned, p: typeof tuned.params) => t.run(p, { pixels }).hidden.data()
    const plain = await hidden(attach(vit, [], rng(0)), {})
    expect(distance(await hidden(tuned, tuned.params), plain)).toBe(0)
    const params = mapParams(tuned.params, (p, n) => add(p, rng(3).fork(n).normal(p.shape, 0.2)))
    const folded = tuned.fold(params)
    expect(distance(await hidden(tuned, params), plain)).toBeGreaterThan(0.01)
    expect(distance(await hidden(tuned, params), await hidden(attach(folded, [], rng(0)), {}))).toBeLessThan(1e-4)
    // entry [o, (c, y, x)] of the matrix is entry [c, o, y, x] of the core's product
    const of = (key: string) => params[`embed.flora.${key}`]! as Tensor2D
    const k = await tucker(of('g'), [of('input'), of('output'), of('height'), of('width')]).data()
    const [w, after] = [await vit.weights['embed']!.dense().data(), await folded.weights['embed']!.dense().data()]
    const at = (c: number, o: number, y: number, x: number): number => k[((c * 8 + o) * 4 + y) * 4 + x]!
    expect(after[5 * 48 + 2 * 16 + 1 * 4 + 3]! - w[5 * 48 + 2 * 16 + 1 * 4 + 3]!).toBeCloseTo(at(2, 5, 1, 3), 4)
  })

  it('says what is wrong', () => {
    const at = (options: object) => () => attach(network, [{ adapter: flora(options), at: 'blocks.0.attn.v' }], rng(0))
    expect(at({ rank: [2, 2, 2] })).toThrow(
      'blocks.0.attn.v: 3 ranks for 2 modes of sizes [16,8]; give one rank for each',
    )
    expect(at({ rank: [2, 9] })).toThrow(
      'blocks.0.attn.v: rank 9 exceeds 8, the size of mode 1; lower rank or narrow "at"',
    )
    expect(at({ rank: [0, 1] })).toThrow('found 0')
    expect(at({ kernel: [3, 2, 2] })).toThrow('blocks.0.attn.v: a kernel of [3,2,2] reads 12 numbers, the matrix 16')
    expect(at({ dropout: 1 })).toThrow('flora: dropout must be in [0, 1), found 1')
    expect(trainable({ in: 16, out: 8 } as never, { rank: [3, 5] })).toBe(16 * 3 + 8 * 5 + 15)
  })
})
