import { attach } from '@weftjs/model'
import {
  add,
  backprop,
  countParams,
  cpu,
  gradients,
  mapParams,
  mul,
  rng,
  sub,
  sum,
  type Tensor,
  tensor,
} from '@weftjs/tensor'
import { fwht } from '@weftjs/tensor/linalg'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { did, intrinsicDimension } from '../src/did.ts'
import { said } from '../src/said.ts'
import { fastfood, orderOf, paddedSize, project } from '../src/shared/fastfood.ts'
import { distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((s, v, i) => s + v * b[i]!, 0)
const dist = async (a: Tensor, b: Tensor): Promise<number> => distance(await a.data(), await b.data())

describe('fastfood', () => {
  it.each([
    [5, 100],
    [64, 64],
    [200, 60],
  ])('is the product of its factors, and its gradient the adjoint: %i → %i', async (d, size) => {
    const p = fastfood(rng(1), d, size)
    const L = paddedSize(d, size)
    const places = orderOf(rng(4), d, L)
    const [signs, order, gauss] = [await p.signs.data(), await places.data(), await p.gauss.data()]
    expect(gauss.length).toBe(L)
    expect(L).toBe(2 ** Math.ceil(Math.log2(Math.max(d, size))))
    const h = 2 ** Math.ceil(Math.log2(d)) // H·B·θ repeats itself after so many numbers
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: L }, (_, i) => Math.floor(i / (L / h))))
    const theta = rng(2).normal([d])
    const padded = new Float64Array(L)
    theta.dataSync().forEach((v, i) => {
      padded[i] = v * signs[i]!
    })
    const spread = fwht(padded)
    const want = fwht(Float64Array.from(order, (from, i) => spread[from]! * gauss[i]!)).slice(0, size)
    expect(distance(await project(theta, p, places, size).data(), want)).toBeLessThan(1e-4)
    // ⟨P·θ, y⟩ = ⟨θ, Pᵀ·y⟩
    const y = rng(3).normal([size])
    const { grads } = gradients(() => sum(mul(project(theta, p, places, size), y)), [theta])
    const [left, right] = [dot(want, await y.data()), dot(await theta.data(), await grads[0]!.data())]
    expect(Math.abs(left - right)).toBeLessThan(1e-4 * Math.max(1, Math.abs(left)))
  })

  it('keeps the length of θ, to some percent on average', async () => {
    let mean = 0
    for (let seed = 0; seed < 40; seed++) {
      const theta = rng(seed).fork('theta').normal([30])
      const found = await project(
        theta,
        fastfood(rng(seed), 30, 500),
        orderOf(rng(seed).fork('order'), 30, 512),
        500,
      ).data()
      mean += Math.sqrt(dot(found, found) / dot(theta.dataSync(), theta.dataSync())) / 40
    }
    expect(Math.abs(mean - 1)).toBeLessThan(0.03)
  })
})

describe('did', () => {
  it('trains one θ for all matrices; each moves by a projection of its own, that the seed gives again', async () => {
    const tune = (seed = 1) => attach(network, [{ adapter: did({ dimension: 20 }), at: '**.{q,v,up}' }], rng(seed))
    const tuned = tune()
    expect(Object.keys(tuned.params)).toEqual(['did.shared.theta'])
    expect(countParams(tuned.params)).toBe(20)
    const params = { 'did.shared.theta': rng(2).normal([20]) }
    const folded = tuned.fold(params).weights
    const delta = (name: string) => sub(folded[name]!.dense(), network.weights[name]!.dense())
    const name = 'blocks.1.mlp.up'
    const { signs, gauss } = Object.fromEntries(
      ['signs', 'gauss'].map((k) => [k, tuned.constants[`${name}.did.${k}`]!]),
    ) as never
    const want = project(params['did.shared.theta'], { signs, gauss }, tuned.constants['did.shared.order512']!, 24 * 16)
    expect(distance(await delta(name).data(), await want.data())).toBeLessThan(1e-6)
    expect(distance(await delta('blocks.0.mlp.up').data(), await want.data())).toBeGreaterThan(0.1)
    const again = tune().fold(params).weights[name]!.dense()
    expect(await dist(again, folded[name]!.dense())).toBe(0)
    expect(await dist(tune(2).fold(params).weights[name]!.dense(), again)).toBeGreaterThan(0.1)
  })

  it('has the gradient that finite differences find', async () => {
    const tuned = attach(network, [{ adapter: did({ dimension: 6 }), at: '**.{q,v}' }], rng(1))
    const c = rng(4).normal([2, 4, 24])
    const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
    const loss = (theta: Tensor) => sum(mul(tuned.forward({ 'did.shared.theta': theta }, { ids }).logits, c))
    const theta = rng(5).normal([6])
    const { grads } = backprop((p) => loss(p['t']!) as never, { t: theta })
    const found = await grads['t']!.data()
    for (let i = 0; i < 6; i++) {
      const step = tensor(Array.from({ length: 6 }, (_, j) => (i === j ? 0.02 : 0)))
      const slope = (loss(add(theta, step)).dataSync()[0]! - loss(sub(theta, step)).dataSync()[0]!) / 0.04
      expect(Math.abs(slope - found[i]!)).toBeLessThan(0.02 * Math.max(1, Math.abs(slope)))
    }
  })

  it('says what is wrong', () => {
    expect(() => did({ dimension: 0 })).toThrow('did: dimension must be a whole number of at least 1, found 0')
    expect(() => attach(network, [{ adapter: said({ dimension: 4 }), at: '**.{q,v}' }], rng(0))).toThrow(
      'blocks.0.attn.q: dimension 4 leaves nothing beside a factor for each of 4 matrices; raise dimension or narrow "at"',
    )
  })
})

describe('said', () => {
  it('scales the projection of each matrix by a number of its own, d numbers in all', async () => {
    const tuned = attach(network, [{ adapter: said({ dimension: 20 }), at: '**.{q,v}' }], rng(1))
    expect(countParams(tuned.params)).toBe(20)
    const theta = rng(2).normal([16])
    const fold = (lambda: number) =>
      tuned.fold(
        mapParams({ ...tuned.params, 'said.shared.theta': theta }, (p, n) =>
          n.endsWith('v.said.lambda') ? tensor([lambda]) : p,
        ),
      ).weights
    const [one, three] = [fold(1), fold(3)]
    const name = 'blocks.0.attn.v'
    const base = network.weights[name]!.dense()
    const want = add(base, mul(3, sub(one[name]!.dense(), base)))
    expect(await dist(three[name]!.dense(), want)).toBeLessThan(1e-5)
    expect(await dist(one[name]!.dense(), base)).toBeGreaterThan(0.1)
    expect(await dist(one['blocks.0.attn.q']!.dense(), three['blocks.0.attn.q']!.dense())).toBe(0)
  })
})

describe('the intrinsic dimension', () => {
  const sweep = [
    { dimension: 1000, metric: 0.95 },
    { dimension: 100, metric: 0.71 },
    { dimension: 300, metric: 0.73 },
    { dimension: 10, metric: 0.2 },
  ]
  it('is the smallest of the sweep that reaches nine tenths', () => {
    expect(intrinsicDimension(sweep, 0.8)).toBe(300)
    expect(intrinsicDimension(sweep, 0.8, 0.5)).toBe(100)
    expect(intrinsicDimension(sweep, 2)).toBeUndefined()
    expect(() => intrinsicDimension(sweep, 0)).toThrow('the metric of full tuning must be positive, found 0')
  })
})
