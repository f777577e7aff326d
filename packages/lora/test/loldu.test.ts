import { attach, contextOf } from '@weftjs/model'
import { add, countParams, cpu, mapParams, rng, sub, type Tensor2D, tensor, tensor2d } from '@weftjs/tensor'
import { matrix, multiply, svd, toMatrix } from '@weftjs/tensor/linalg'
import { tinyLlama } from '@weftjs/testkit'
import { dense } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { type LolduOptions, loldu } from '../src/loldu.ts'
import { ldu } from '../src/shared/ldu.ts'
import { distance } from './fixture.ts'

await cpu()
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')

describe('P·L·D·U', () => {
  it('takes the largest pivot of each column: [[1, 2], [3, 4]] by hand', () => {
    const { l, d, u, rows } = ldu(matrix(2, 2, [1, 2, 3, 4]), 2)
    expect([...rows]).toEqual([1, 0])
    expect(distance(d, [3, 2 / 3])).toBeLessThan(1e-12)
    expect(distance(l.data, [1 / 3, 1, 1, 0])).toBeLessThan(1e-12)
    expect(distance(u.data, [1, 4 / 3, 0, 1])).toBeLessThan(1e-12)
  })

  it.each([
    [7, 7],
    [9, 5],
    [5, 9],
  ])('is the matrix itself at full rank: %i by %i', async (m, n) => {
    const a = toMatrix(rng(1).normal([m, n]) as Tensor2D)
    const r = Math.min(m, n)
    const { l, d, u } = ldu(a, r)
    const scaled = matrix(
      r,
      n,
      u.data.map((v, i) => v * d[Math.floor(i / n)]!),
    )
    expect(distance(multiply(l, scaled).data, a.data)).toBeLessThan(1e-10)
    expect(l.data.every((v) => Math.abs(v) <= 1)).toBe(true)
    // the first steps of a short one are those of the whole
    expect(distance(ldu(a, 3).d, d.slice(0, 3))).toBe(0)
  })

  it('stops before a pivot of zero', () => {
    expect(ldu(matrix(3, 3, [1, 2, 3, 2, 4, 6, 3, 6, 10]), 3).d.length).toBe(1)
  })
})

describe('loldu', () => {
  const network = tinyLlama(rng(0))
  it('begins as the network with every start of z', async () => {
    const plain = await attach(network, [], rng(0)).forward({}, { ids }).logits.data()
    const inits: LolduOptions['init'][] = ['lu', 'mean', 'normal', 'uniform', 'ones', 'zeros']
    const starts = new Set<string>()
    for (const init of inits)
      for (const trainScale of [false, true]) {
        const tuned = attach(
          network,
          [{ adapter: loldu({ rank: 4, init: init!, trainScale }), at: '**.{q,up}' }],
          rng(1),
        )
        expect(distance(await tuned.forward(tuned.params, { ids }).logits.data(), plain)).toBe(0)
        expect(countParams(tuned.params)).toBe(4 * (4 + (trainScale ? 1 : 0)))
        starts.add((await tuned.params['blocks.0.attn.q.loldu.z']!.data()).join())
      }
    expect(starts.size).toBe(inits.length)
  })

  it('changes W by s·P·L·diag(z − z₀)·U, by hand, and by no more than r directions', async () => {
    const w = tensor2d([1, 2, 3, 4], [2, 2])
    const site = { name: 'w', kind: 'linear' as const, layer: 0, in: 2, out: 2, weight: dense(w) }
    const tuned = (z: number[]) => {
      const adapter = loldu({ rank: 2, alpha: 6 })
      const { state } = adapter.init(site, { rng: rng(0) } as never)!
      return adapter.weight!(site.weight, { ...state, z: tensor(z) as never }, contextOf(site)).dense()
    }
    // s = 3: z₀ + [1, 0] adds 3·[1/3; 1]·[1, 4/3]
    expect(distance(await tuned([4, 2 / 3]).data(), [2, 2 + 4 / 3, 6, 8])).toBeLessThan(1e-5)
    const big = attach(network, [{ adapter: loldu({ rank: 3 }), at: 'blocks.0.mlp.up' }], rng(1))
    const params = mapParams(big.params, (p) => add(p, rng(2).normal(p.shape)))
    const name = 'blocks.0.mlp.up'
    const delta = sub(big.fold(params).weights[name]!.dense(), network.weights[name]!.dense()) as Tensor2D
    const { s } = svd(toMatrix(delta))
    expect(s[2]! / s[0]!).toBeGreaterThan(1e-3)
    expect(s[3]! / s[0]!).toBeLessThan(1e-5)
  })

  it('says what is wrong', () => {
    const at =
      (options: object, net = network) =>
      () =>
        attach(net, [{ adapter: loldu(options), at: 'blocks.0.attn.v' }], rng(0))
    expect(at({ rank: 9 })).toThrow('blocks.0.attn.v: rank 9 exceeds min(8, 16); lower rank or narrow "at"')
    expect(at({ rank: 0 })).toThrow('blocks.0.attn.v: rank must be a whole number of at least 1, found 0')
    expect(at({ alpha: 0 })).toThrow('loldu: alpha must be a number other than 0, found 0')
    const v = network.weights['blocks.0.attn.v']!
    const flat = {
      ...network,
      weights: { ...network.weights, 'blocks.0.attn.v': v.like(tensor(Array(128).fill(1), [8, 16]) as Tensor2D) },
    }
    expect(at({ rank: 4 }, flat)).toThrow(
      'blocks.0.attn.v: pivot 2 is as good as zero, so that rank 4 cannot be had; lower rank to 1',
    )
  })
})
