import { attach, contextOf } from '@weftjs/model'
import { add, backprop, cpu, mapParams, matMul, mul, rng, square, sub, sum, tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { lora } from '../src/lora.ts'
import { type LoraGgpoState, loraGgpo } from '../src/lora-ggpo.ts'
import { distance } from './fixture.ts'

await cpu()
const net = tinyLlama(rng(0))
const name = 'blocks.0.mlp.up'
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const [out, input] = [24, 16]
const { site } = attach(net, [{ adapter: lora(), at: name }], rng(0)).bound[0]!
const state = { a: rng(1).normal([3, input]), b: rng(2).normal([out, 3]) } as never as LoraGgpoState

/** after one revision, with gradients of the factors of an arbitrary gradient of the weight */
const revised = (options: object): { std: Float32Array; g: ReturnType<typeof matMul> } => {
  const s = 2
  const [ga, gb] = [rng(3).normal([3, input]), rng(4).normal([out, 3])]
  const adapter = loraGgpo({ rank: 3, alpha: 6, ...options })
  const found = adapter.revise!(
    {
      [name]: {
        site,
        state: { ...state, std: tensor(new Array<number>(out).fill(0)) as never },
        grads: { a: ga, b: gb } as never,
      },
    },
    { step: 1, steps: 9, rng: rng(0) },
  )
  return {
    std: found[name]!.state.std!.dataSync() as Float32Array,
    g: mul(add(matMul(state.b, ga), matMul(gb, state.a)), s),
  }
}

describe('lora-ggpo', () => {
  it('sets the noise of each row by its weight and its gradient', async () => {
    const { std, g } = revised({ sigma: 0.1, beta: 0.5 })
    const w = add(net.weights[name]!.dense(), mul(matMul(state.b, state.a), 2))
    const [rows, slopes] = [await sum(square(w), 1).data(), await sum(square(g), 1).data()]
    const want = Array.from(rows, (v, i) => 0.1 * Math.sqrt((v + 0.5 * slopes[i]!) / input))
    expect(distance(std, want)).toBeLessThan(1e-4)
  })

  it('draws noise of that size, the same under one seed, and only while training', async () => {
    const adapter = loraGgpo({ rank: 3 })
    const std = Float32Array.from({ length: out }, (_, i) => 0.1 * (i + 1))
    const own = { ...state, std: tensor(std) } as never
    const plain = adapter.weight!(site.weight!, own, contextOf(site)).dense()
    const noisy = (seed: number): ReturnType<typeof sub> =>
      sub(adapter.weight!(site.weight!, own, contextOf(site, { training: true, rng: rng(seed) })).dense(), plain)
    expect(distance(await noisy(1).data(), await noisy(1).data())).toBe(0)
    const squares = new Float64Array(out)
    const N = 60
    for (let seed = 0; seed < N; seed++)
      for (const [i, v] of (await noisy(seed).data()).entries())
        squares[Math.floor(i / input)]! += (v * v) / (N * input)
    // 960 numbers a row: 5 % is more than twice the standard error of a standard deviation
    const odd = [...squares].filter((v, i) => Math.abs(Math.sqrt(v) / std[i]! - 1) > 0.08)
    expect(odd).toEqual([])
    const folded = attach(net, [{ adapter, at: name }], rng(0))
    expect(
      distance(
        await folded
          .fold({ ...folded.params })
          .weights[name]!.dense()
          .data(),
        await net.weights[name]!.dense().data(),
      ),
    ).toBe(0)
  })

  it('is LoRA bit by bit where σ is 0, and in its first step', async () => {
    const at = '**.{q,up}'
    const [a, b, c] = [lora({ rank: 2 }), loraGgpo({ rank: 2, sigma: 0 }), loraGgpo({ rank: 2 })].map((adapter) => {
      const tuned = attach(net, [{ adapter, at, name: 'x' }], rng(1))
      const params = mapParams(tuned.params, (p, n) => add(p, rng(5).fork(n).normal(p.shape, 0.1)))
      const loss = (p: typeof params): never =>
        sum(square(tuned.forward(p, { ids }, { training: true, rng: rng(7) }).logits)) as never
      return backprop(loss, params).grads
    })
    for (const n of Object.keys(a!)) {
      expect(distance(await b![n]!.data(), await a![n]!.data())).toBe(0)
      expect(distance(await c![n]!.data(), await a![n]!.data())).toBeLessThan(1e-5)
    }
  })

  it('gives the gradient of the noisy weight to what lies before it', async () => {
    const adapter = loraGgpo({ rank: 3 })
    const own = { ...state, std: tensor(new Array<number>(out).fill(0.5)) } as never
    const w = adapter.weight!(site.weight!, own, contextOf(site, { training: true, rng: rng(1) }))
    const g = rng(6).normal([2, out])
    const { grads } = backprop((p) => sum(mul(w.apply(p['x']!), g)) as never, { x: rng(8).normal([2, input]) })
    expect(distance(await grads['x']!.data(), await matMul(g, w.dense()).data())).toBeLessThan(2e-5)
  })

  it('says what is wrong', () =>
    expect(() => loraGgpo({ sigma: -1 })).toThrow('lora-ggpo: sigma must be at least 0, found -1'))
})
