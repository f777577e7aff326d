import { attach } from '@weftjs/model'
import type { Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { rng, tensor, tensor1d, tensor2d } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { type HydraOptions, hydra } from '../src/hydra.ts'
import { lora } from '../src/lora.ts'
import { biased, context, expectNear, gap, logits, moved, network, tune, values } from './beside.ts'
import { model } from './fixture.ts'

const at = '**.{q,k,v,o,up,down}'

describe('hydra', () => {
  it('is y + s·(B(Ax + a) + c) + s·(D(Cy + b) + d), y = Wx + bias, by numbers worked out by hand', async () => {
    const state = {
      ...{ a: tensor2d([[1, 2]]), b: tensor2d([[1], [0]]), aBias: tensor1d([1]), bBias: tensor1d([0, 5]) },
      ...{ c: tensor2d([[1, 1]]), d: tensor2d([[2], [1]]), cBias: tensor1d([-1]), dBias: tensor1d([1, 0]) },
    }
    const adapter = hydra({ scale: 0.5, bias: true })
    const w = adapter.weight!(
      dense(
        tensor2d([
          [1, 0],
          [0, 3],
        ]),
      ),
      state as never,
      context(),
    )
    const bias = adapter.vector!('bias', tensor1d([10, 20]), state as never, context())!
    const y = await values(w.apply(tensor([1, 1], [1, 2])))
    // y₀ = (1, 3) + (10, 20) = (11, 23); B(Ax + a) + c = (4, 5); Cy + b = 33, D(·) + d = (67, 33)
    expectNear(
      y.map((v, i) => v + [...bias.dataSync()][i]!),
      [11 + 0.5 * (4 + 67), 23 + 0.5 * (5 + 33)],
    )
  })

  it('folds with the bias, on networks that have some', async () => {
    for (const base of [biased, await model('gpt2'), await model('bert')]) {
      const plain = attach(base, [], rng(0))
      for (const options of [
        { parallel: 2, sequential: 3 },
        { parallel: 2, sequential: 2, bias: true, scale: 2 },
      ]) {
        const tuned = tune(hydra(options), '**.{attn,mlp}.{q,v,qkv,o,up,down}', base)
        expect(await gap(logits(tuned), logits(plain))).toBe(0)
        const params = moved(tuned)
        const there = logits(tuned, params)
        expect(await gap(there, logits(plain))).toBeGreaterThan(0.01)
        expect(await gap(logits(attach(tuned.fold(params), [], rng(0)), {}), there)).toBeLessThan(5e-5)
      }
    }
  })

  it('with branch biases gives linears a bias that had none', () => {
    const tuned = tune(hydra({ parallel: 2, sequential: 2, bias: true }), 'blocks.0.mlp.up')
    expect(tuned.fold(moved(tuned)).vectors['blocks.0.mlp.up.bias']!.shape).toEqual([24])
    expect(network.vectors['blocks.0.mlp.up.bias']).toBeUndefined()
  })

  it('without the sequential branch is LoRA', async () => {
    const [one, other] = [tune(hydra({ parallel: 3, sequential: 0 }), at), tune(lora({ rank: 3 }), at)]
    const params = moved(one, 0.2)
    const same = Object.fromEntries(Object.entries(params).map(([n, t]) => [n.replace('hydra', 'lora'), t]))
    expect(Object.keys(same).sort()).toEqual(Object.keys(other.params).sort())
    expect(await gap(logits(one, params), logits(other, same))).toBeLessThan(1e-6)
  })

  it('without the parallel branch multiplies the output: W′ = (I + s·D·C)·W', async () => {
    const tuned = tune(hydra({ parallel: 0, sequential: 2, scale: 3 }), 'blocks.0.attn.k')
    const params = moved(tuned)
    const [c, d] = [params['blocks.0.attn.k.hydra.c']!, params['blocks.0.attn.k.hydra.d']!].map((t) => [
      ...t.dataSync(),
    ]) as [number[], number[]]
    const w = [...network.weights['blocks.0.attn.k']!.dense().dataSync()]
    const cw = [0, 1].map((r) =>
      Array.from({ length: 16 }, (_, j) =>
        [...Array(8).keys()].reduce((s, i) => s + c[r * 8 + i]! * w[i * 16 + j]!, 0),
      ),
    )
    const want = w.map(
      (v, i) => v + 3 * [0, 1].reduce((s, r) => s + d[Math.floor(i / 16) * 2 + r]! * cw[r]![i % 16]!, 0),
    )
    expectNear(await values(tuned.fold(params).weights['blocks.0.attn.k']!.dense()), want)
  })

  it('multiplies by the base once', () => {
    let times = 0
    const w = rng(0).normal([4, 4]) as Tensor2D
    const base: Weight = {
      ...dense(w),
      apply: (x: Tensor) => {
        times++
        return dense(w).apply(x)
      },
    }
    const adapter = hydra({ parallel: 2, sequential: 2 })
    const { state } = adapter.init({ name: 'x', kind: 'linear', layer: 0, in: 4, out: 4, weight: base }, {
      rng: rng(1),
    } as never)!
    adapter.weight!(base, state, context()).apply(rng(2).normal([3, 4]))
    expect(times).toBe(1)
  })

  it.each<[HydraOptions, string]>([
    [{ parallel: 9 }, 'blocks.0.attn.v: parallel rank 9 exceeds min(8, 16); lower it or narrow "at"'],
    [{ sequential: 9 }, 'blocks.0.attn.v: sequential rank 9 exceeds 8'],
    [{ parallel: 0, sequential: 0 }, 'hydra: both branches have rank 0'],
    [{ parallel: 1.5 }, 'hydra: parallel must be a whole number of at least 0, found 1.5'],
    [{ scale: Number.POSITIVE_INFINITY }, 'hydra: scale must be a number'],
  ])('refuses %o', (options, message) => {
    expect(() => tune(hydra(options), 'blocks.0.attn.v')).toThrow(message)
  })
})
