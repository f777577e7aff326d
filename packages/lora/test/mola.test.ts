import { attach } from '@weftjs/model'
import type { Network, Params, Tensor } from '@weftjs/spec'
import { add, concat, countParams, cpu, mapParams, rng, slice, tensor, zerosLike } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { lora } from '../src/lora.ts'
import { mola, trainable } from '../src/mola.ts'
import { experts, topGates, topMask } from '../src/shared/routing.ts'
import { distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const at = 'blocks.*.attn.{q,v}'
const tune = (options: object, where: string | string[] = at) =>
  attach(network as Network<any>, [{ adapter: mola(options), at: where }], rng(1))
const moved = (params: Params): Params => mapParams(params, (p, n) => add(p, rng(3).fork(n).normal(p.shape, 0.2)))
const logits = async (tuned: ReturnType<typeof tune>, params: Params): Promise<ArrayLike<number>> =>
  tuned.forward(params, { ids }).logits.data()

describe('routing', () => {
  it('keeps the k largest and makes them sum to 1; of equal ones the first', async () => {
    const p = tensor([0.1, 0.4, 0.2, 0.3, 0.25, 0.25, 0.25, 0.25], [2, 4])
    const mask = topMask(p, 2)
    expect([...(await mask.data())]).toEqual([0, 1, 0, 1, 1, 1, 0, 0])
    expect(distance(await topGates(p, mask).data(), [0, 4 / 7, 0, 3 / 7, 0.5, 0.5, 0, 0])).toBeLessThan(1e-6)
  })

  it('sums gated experts, by hand', async () => {
    // A₁ = [1, 0], A₂ = [0, 1]; B = [10, 100]: 0.25·x₁·10 + 0.75·x₂·100
    const y = experts(
      tensor([2, 3], [1, 2]),
      tensor([1, 0, 0, 1], [2, 2]),
      tensor([10, 100], [1, 2]),
      tensor([0.25, 0.75], [1, 2]),
    )
    expect([...(await y.data())]).toEqual([230])
  })
})

describe('mola', () => {
  it('with one expert is LoRA', async () => {
    const one = tune({ experts: 1, top: 1, rank: 4, alpha: 12 })
    const params = moved(one.params)
    const plain = attach(network, [{ adapter: lora({ rank: 4, alpha: 12 }), at }], rng(1))
    const same = mapParams(plain.params, (_, n) => params[n.replace('.lora.', '.mola.')]!)
    expect(distance(await logits(one, params), await plain.forward(same, { ids }).logits.data())).toBeLessThan(1e-5)
  })

  it('with K = N mixes all experts by softmax: as many LoRAs, each by its p, at one matrix', async () => {
    const where = 'blocks.0.attn.q'
    const tuned = tune({ experts: 3, top: 3, rank: 2, alpha: 2 }, where)
    const params = moved(tuned.params)
    // p constant over tokens: a router of zeros, 1/3 each, so the mean of three LoRAs
    const flat = { ...params, [`${where}.mola.g`]: zerosLike(params[`${where}.mola.g`]!) }
    const plain = attach(network, [{ adapter: lora({ rank: 6, alpha: 2 }), at: where }], rng(1))
    const same = { [`${where}.lora.a`]: params[`${where}.mola.a`]!, [`${where}.lora.b`]: params[`${where}.mola.b`]! }
    // α/r = 2/6 = 1/3
    expect(distance(await logits(tuned, flat), await plain.forward(same, { ids }).logits.data())).toBeLessThan(1e-5)
    expect(distance(await logits(tuned, params), await logits(tuned, flat))).toBeGreaterThan(1e-3)
  })

  it('does not mind the order of its experts', async () => {
    const tuned = tune({ experts: 3, top: 2, rank: 2 })
    const params = moved(tuned.params)
    const rows = (t: Tensor, n: number) =>
      concat(
        [2, 0, 1].map((e) => slice(t, [e * n, 0], [n, -1])),
        0,
      )
    const columns = (t: Tensor) =>
      concat(
        [2, 0, 1].map((e) => slice(t, [0, e * 2], [-1, 2])),
        1,
      )
    const turned = mapParams(params, (p, n) => (n.endsWith('.b') ? columns(p) : rows(p, n.endsWith('.g') ? 1 : 2)))
    expect(distance(await logits(tuned, turned), await logits(tuned, params))).toBeLessThan(1e-5)
  })

  it('has more experts in higher layers: a list stands for equal groups', () => {
    const site = { in: 16, out: 8, layer: 0 } as never
    const at = (layer: number, layers: number) =>
      trainable({ ...(site as object), layer } as never, { rank: 4 }, layers) / (4 * 24 + 16)
    expect([0, 1, 2, 3, 4, 5, 6, 7].map((l) => at(l, 8))).toEqual([2, 2, 4, 4, 6, 6, 8, 8])
    expect([0, 1].map((l) => at(l, 2))).toEqual([2, 6])
    const tuned = tune({ rank: 4 }, ['blocks.*.attn.q'])
    expect(countParams(tuned.params)).toBe((2 + 6) * (4 * 32 + 16))
    expect(tuned.params['blocks.1.attn.q.mola.g']!.shape).toEqual([6, 16])
  })

  it('adds 1 for each layer to the loss where routers are even, times its weight, whatever the number of routers', async () => {
    const penalty = async (params: Params, tuned: ReturnType<typeof tune>, inputs = {}): Promise<number> =>
      (await tuned.run(params, { ids, ...inputs }, { training: true }).penalty!.data())[0]!
    for (const where of [at, 'blocks.*.attn.q', '**.{q,k,v,o}']) {
      const tuned = tune({ experts: 4, rank: 2, balance: 0.5 }, where)
      const flat = mapParams(tuned.params, (p, n) => (n.endsWith('.g') ? zerosLike(p) : p))
      expect(await penalty(flat, tuned)).toBeCloseTo(2 * 0.5, 5)
    }
    // by hand from the router of a layer alone, padding left out: N·Σ fᵢ·Pᵢ
    const where = 'blocks.0.attn.q'
    const tuned = tune({ experts: 4, rank: 2, balance: 1 }, where)
    const params = moved(tuned.params)
    const mask = tensor([1, 1, 1, 1, 1, 1, 0, 0], [2, 4], 'int32')
    let x: ArrayLike<number> = []
    const spy = {
      name: 'spy',
      init: () => ({ state: {} }),
      around: (next: (x: Tensor) => Tensor, input: Tensor) => {
        x = input.dataSync()
        return next(input)
      },
    }
    attach(network, [{ adapter: spy as never, at: where }], rng(0)).run({}, { ids, mask })
    const g = await params[`${where}.mola.g`]!.data()
    const [f, p] = [Array(4).fill(0), Array(4).fill(0)]
    for (const t of [0, 1, 2, 3, 4, 5]) {
      const z = [0, 1, 2, 3].map((e) =>
        Math.exp(Array.from({ length: 16 }, (_, i) => x[t * 16 + i]! * g[e * 16 + i]!).reduce((a, b) => a + b)),
      )
      const sum = z.reduce((a, b) => a + b)
      z.forEach((v, e) => {
        p[e] += v / sum / 6
      })
      for (const e of [0, 1, 2, 3].sort((a, b) => z[b]! - z[a]!).slice(0, 2)) f[e] += 1 / 12
    }
    expect(await penalty(params, tuned, { mask })).toBeCloseTo(4 * f.reduce((s, v, e) => s + v * p[e]!, 0), 4)
  })

  it('says what is wrong', () => {
    expect(() => mola({ experts: 2, top: 3 })).toThrow('mola: top 3 exceeds 2 experts; lower top or raise experts')
    expect(() => mola({ experts: [] })).toThrow('mola: experts is an empty list')
    expect(() => mola({ experts: [2, 0] })).toThrow('mola: experts must be a whole number of at least 1, found 0')
    expect(() => mola({ top: 0 })).toThrow('mola: top must be a whole number of at least 1, found 0')
    expect(() => tune({ experts: 2, rank: 9 })).toThrow('blocks.0.attn.v: rank 9 exceeds min(8, 16)')
  })
})
