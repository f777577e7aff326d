import { attach } from '@weftjs/model'
import type { Params } from '@weftjs/spec'
import { add, backprop, countParams, cpu, mapParams, mul, rng, sum, tensor, zerosLike } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { type LlavaMoleOptions, llavaMole } from '../src/llava-mole.ts'
import { lora } from '../src/lora.ts'
import { distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [2, 6], 'int32')
const at = ['blocks.*.mlp', 'blocks.*.mlp.*']
const tune = (options: LlavaMoleOptions, where: string | string[] = at) =>
  attach(network, [{ adapter: llavaMole({ rank: 4, ...options }), at: where }], rng(1))
const moved = (params: Params, std = 0.3): Params =>
  mapParams(params, (p, n) => add(p, rng(3).fork(n).normal(p.shape, std)))
const logits = async (tuned: ReturnType<typeof tune>, params: Params): Promise<ArrayLike<number>> =>
  tuned.forward(params, { ids }).logits.data()

describe('llava-mole', () => {
  it('gives and learns the same by sparse dispatch as by masks', async () => {
    const [masked, sparse] = [tune({ dispatch: 'masked' }), tune({ dispatch: 'sparse' })]
    const params = moved(masked.params)
    expect(distance(await logits(masked, params), await logits(sparse, params))).toBeLessThan(1e-4)
    const c = rng(4).normal([2, 6, 24])
    const [a, b] = [masked, sparse].map((t) => backprop((p) => sum(mul(t.forward(p, { ids }).logits, c)), params).grads)
    for (const name of Object.keys(params))
      expect(distance(await a![name]!.data(), await b![name]!.data())).toBeLessThan(2e-3)
    // and all experts are in use, so that there was something to tell apart
    const bs = Object.keys(params).filter((n) => n.endsWith('down.llava-mole.b'))
    for (const name of bs) {
      const g = await a![name]!.data() // [out, E·r]
      for (const e of [0, 1, 2]) expect(g.some((v, i) => v !== 0 && Math.floor((i % 12) / 4) === e)).toBe(true)
    }
  })

  it('sends a token through one expert in all of the FFN', async () => {
    const tuned = tune({})
    const params = moved(tuned.params)
    // a router that always says 1 makes the whole of it the LoRA of expert 1
    const always = mapParams(params, (p, n) =>
      n.endsWith('mlp.llava-mole.w') ? zerosLike(p) : n.endsWith('.bias') ? tensor([0, 5, 0]) : p,
    )
    const plain = attach(network, [{ adapter: lora({ rank: 4, alpha: 64 }), at: 'blocks.*.mlp.*' }], rng(1))
    const expert = (name: string): Params[string] => {
      const t = params[name.replace('.lora.', '.llava-mole.')]!
      const [rows, columns] = t.shape as [number, number]
      const values = t.dataSync()
      const of = (i: number, j: number): number => values[i * columns + j]!
      return name.endsWith('.a')
        ? tensor(
            Array.from({ length: 4 * columns }, (_, k) => of(4 + Math.floor(k / columns), k % columns)),
            [4, columns],
          )
        : tensor(
            Array.from({ length: rows * 4 }, (_, k) => of(Math.floor(k / 4), 4 + (k % 4))),
            [rows, 4],
          )
    }
    const same = mapParams(plain.params, (_, n) => expert(n))
    const want = await plain.forward(same, { ids }).logits.data()
    for (const dispatch of ['masked', 'sparse'] as const)
      expect(distance(await logits(tune({ dispatch }), always), want)).toBeLessThan(1e-3)
    expect(distance(await logits(tuned, params), want)).toBeGreaterThan(0.01)
  })

  it('with one expert is LoRA on the FFN, and its balance is 1', async () => {
    const one = tune({ experts: 1, balance: 1 })
    const params = moved(one.params)
    const plain = attach(network, [{ adapter: lora({ rank: 4, alpha: 64 }), at: 'blocks.*.mlp.*' }], rng(1))
    const same = mapParams(plain.params, (_, n) => params[n.replace('.lora.', '.llava-mole.')]!)
    expect(distance(await logits(one, params), await plain.forward(same, { ids }).logits.data())).toBeLessThan(1e-4)
    const { penalty } = one.run(params, { ids }, { training: true })
    expect((await penalty!.data())[0]).toBeCloseTo(1, 5)
  })

  it('dense mixes whole FFNs by p: with all experts alike it is LoRA, too', async () => {
    const tuned = tune({ dispatch: 'dense', experts: 2 })
    const first = moved(tuned.params)
    const twice = mapParams(first, (p, n) => {
      if (!/\.[ab]$/.test(n)) return p
      const values = p.dataSync()
      const [, columns] = p.shape as [number, number]
      return tensor(
        Array.from(values, (_, k) => {
          const [i, j] = [Math.floor(k / columns), k % columns]
          return n.endsWith('.a') ? values[(i % 4) * columns + j]! : values[i * columns + (j % 4)]!
        }),
        p.shape,
      )
    })
    const masked = tune({ dispatch: 'masked', experts: 2 })
    expect(distance(await logits(tuned, twice), await logits(masked, twice))).toBeLessThan(1e-4)
    expect(distance(await logits(tuned, first), await logits(masked, first))).toBeGreaterThan(1e-3)
  })

  it('has a balance of 1/E for even routers, 1 for one that always says the same, by sequence, without padding', async () => {
    const tuned = tune({ balance: 1 })
    const router = (bias: number[]): Params =>
      mapParams(tuned.params, (p, n) => (n.endsWith('.bias') ? tensor(bias) : n.endsWith('.w') ? zerosLike(p) : p))
    const of = async (params: Params, inputs = {}) =>
      (await tuned.run(params, { ids, ...inputs }, { training: true }).penalty!.data())[0]!
    expect(await of(router([0, 0, 0]))).toBeCloseTo(1 / 3, 5)
    expect(await of(router([0, 50, 0]))).toBeCloseTo(1, 5)
    const params = moved(tuned.params, 1)
    const mask = tensor([1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], [2, 6], 'int32')
    expect(Math.abs((await of(params, { mask })) - (await of(params)))).toBeGreaterThan(1e-4)
    // the mean over its sequences, one at a time
    const rows = [0, 1].map((b) =>
      tensor(
        Array.from({ length: 6 }, (_, t) => 1 + 6 * b + t),
        [1, 6],
        'int32',
      ),
    )
    const each = await Promise.all(rows.map((row) => of(params, { ids: row })))
    expect(await of(params)).toBeCloseTo((each[0]! + each[1]!) / 2, 5)
  })

  it('trains E·3·r·(d + m) + E·(d + 1) numbers in a layer', () => {
    expect(countParams(tune({}).params)).toBe(2 * (3 * 3 * 4 * (16 + 24) + 3 * 17))
  })

  it('says what is wrong', () => {
    expect(() => tune({}, 'blocks.*.mlp')).toThrow(
      'blocks.0.mlp: a router, and no linear for its experts; widen "at" to blocks.0.mlp.*',
    )
    expect(() => tune({}, 'blocks.*.mlp.up')).toThrow(
      'blocks.0.mlp.up: experts, and no router at blocks.0.mlp; widen "at" to it',
    )
    expect(() => tune({}, ['blocks.*.mlp', 'blocks.*.mlp.up', '**.q'])).toThrow(
      'blocks.0.attn.q: experts live in the linears of an FFN; narrow "at" to blocks.*.mlp and blocks.*.mlp.*, and put lora() here',
    )
    expect(() => llavaMole({ experts: 0 })).toThrow('llava-mole: experts must be a whole number of at least 1, found 0')
    expect(() => tune({ rank: 17 })).toThrow('rank 17 exceeds min(24, 16)')
  })
})
