import { attach, nextToken } from '@weftjs/model'
import { backprop, countParams, rng, type Tensor, tensor, tensor3d } from '@weftjs/tensor'
import { hypercomplex } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { type CompacterOptions, compacter, trainable } from '../src/compacter.ts'
import {
  context,
  countOwn,
  expectNear,
  expectSameText,
  gap,
  ids,
  logits,
  moved,
  network,
  site,
  tune,
  values,
} from './beside.ts'

const at = 'blocks.*.{attn,mlp}'
const batch = { shape: [2, 5] as const, targets: Int32Array.from([2, 3, 4, 5, -100, 7, 8, 9, 10, -100]) }
const options = { reduction: 2, terms: 4 } as const

describe('compacter', () => {
  it('maps by Σ Aᵢ ⊗ sᵢ·tᵢ, filled in by another way', async () => {
    const [n, u, v, r] = [3, 2, 4, 2]
    const noise = rng(1)
    const [a, s, t] = [noise.normal([n, n, n]), noise.normal([n, u, r]), noise.normal([n, r, v])]
    const [A, S, T] = (await Promise.all([a, s, t].map(values))) as [number[], number[], number[]]
    const want = new Array<number>(n * v * n * u).fill(0)
    for (let i = 0; i < n; i++)
      for (let p = 0; p < n; p++)
        for (let q = 0; q < n; q++)
          for (let j = 0; j < u; j++)
            for (let k = 0; k < v; k++)
              for (let m = 0; m < r; m++)
                want[(q * v + k) * n * u + p * u + j]! +=
                  A[(i * n + p) * n + q]! * S[(i * u + j) * r + m]! * T[(i * r + m) * v + k]!
    expectNear(await values(hypercomplex(a, s, t).dense()), want)
    expect(() => hypercomplex(a, s, noise.normal([n, r + 1, v]))).toThrow(
      'hypercomplex: a [3,3,3], s [3,2,2] and t [3,3,4]',
    )
  })

  it('with one term of size one is an adapter of rank one: y + u·gelu(d·y) by hand', async () => {
    const shared = { a: tensor([1], [1, 1, 1]) }
    const state = {
      ...{ ds: tensor3d([[[1], [2]]]), dt: tensor3d([[[1]]]), downBias: tensor([0.5]) },
      ...{ us: tensor3d([[[2]]]), ut: tensor3d([[[1, -1]]]), upBias: tensor([0, 10]) },
    }
    const adapter = compacter({ terms: 1, reduction: 2, activation: 'relu' })
    const y = adapter.around!((x) => x, tensor([1, 1], [1, 2]), state as never, context({ shared }))
    // d·y + ½ = 3.5; u = 2·(1, −1): (7, −7) + (0, 10)
    expect(await values(y)).toEqual([8, 4])
  })

  it('changes outputs by less than a millionth at first', async () => {
    const d = 64
    const place = site({ in: d, out: d })
    const noise = rng(3)
    const made: Record<string, Tensor> = {}
    const shared = (key: string, make: any) => (made[key] ??= make(noise))
    const { state } = compacter({ reduction: 8 }).init(place, { rng: noise, shared } as never)!
    const x = noise.normal([5, d])
    const y = compacter({ reduction: 8 }).around!((x) => x, x, state, context({ shared: made }))
    const norm = (v: number[]): number => Math.hypot(...v)
    const [before, after] = [await values(x), await values(y)]
    expect(norm(after.map((v, i) => v - before[i]!))).toBeLessThan(1e-6 * norm(before))
  })

  it('counts as the paper does for T5-base: 0.047 % of its numbers with the norms', () => {
    const each = trainable(site({ in: 768, out: 768 }))
    expect(each).toBe(3 * (768 + 24))
    expect(24 * each + 4 ** 3 + 62 * 768).toBe(104_704)
  })

  it('has one set of slow weights for all places, which trains, also where blocks run again for the backward pass', async () => {
    const tuned = tune(compacter(options), at)
    expect(tuned.params['compacter.shared.a']!.shape).toEqual([4, 4, 4])
    expect(countParams(tuned.params) - countOwn(tuned)).toBe(4 ** 3)
    const params = moved(tuned)
    const grads = (recompute: boolean) =>
      backprop((p) => nextToken(tuned.run(p, { ids: ids() }, { training: true, recompute }), batch), params).grads
    const [once, twice] = [grads(false), grads(true)]
    for (const [name, g] of Object.entries(once)) expect(await gap(twice[name]!, g)).toBeLessThan(1e-5)
    expect((await values(twice['compacter.shared.a']!)).some((v) => Math.abs(v) > 1e-4)).toBe(true)
  })

  it('trains beside the norms of the model', () => {
    const tuned = attach(network, [{ adapter: compacter(options), at }], rng(0), { train: '**.norm*' })
    expect(Object.keys(tuned.params).filter((n) => /norm[12]$/.test(n))).toHaveLength(4)
  })

  it('generates the same text with and without a cache', async () => {
    const tuned = tune(compacter(options), at)
    await expectSameText(tuned, moved(tuned, 0.5))
    expect(logits(tuned).shape).toEqual([2, 5, 24])
  })

  it.each<[CompacterOptions, string]>([
    [{ reduction: 32 }, 'blocks.0.attn: reduction 32 leaves nothing of width 16; lower it'],
    [{ reduction: 8 }, 'blocks.0.attn: 4 terms must divide the width 16 and its hidden units 2'],
    [{ reduction: 2, terms: 3 }, 'blocks.0.attn: 3 terms must divide'],
    [{ rank: 0 }, 'compacter: rank must be a whole number of at least 1, found 0'],
    [{ activation: 'swish' as never }, "compacter: there is no activation 'swish'"],
  ])('refuses %o', (given, message) => {
    expect(() => tune(compacter(given), at)).toThrow(message)
  })
})
