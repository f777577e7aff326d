import { attach, inputsOf, nextToken, sitesOf } from '@weftjs/model'
import type { Batch, Params, Scalar } from '@weftjs/spec'
import { add, cpu, mul, rng, square, sum, tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  adamw,
  backwardShare,
  greenTrainer,
  importanceOf,
  selectTensors,
  sgd,
  type TensorCost,
  tensorCosts,
} from '../src/index.ts'

await cpu()
const network = tinyLlama(rng(0))
const sites = sitesOf(network)

/** all subsets, by the same rounded costs */
const brute = (costs: readonly TensorCost[], importance: readonly number[], budget: number): number => {
  const scale = 1000 / costs.reduce((s, c) => s + c.dw + c.dy, 0)
  let best = 0
  for (let set = 0; set < 2 ** costs.length; set++) {
    let [cost, passed, value] = [0, 0, 0]
    costs.forEach((c, k) => {
      passed += Math.floor(c.dy * scale)
      if (!((set >> k) & 1)) return
      cost += passed + Math.floor(c.dw * scale)
      passed = 0
      value += importance[k]!
    })
    if (cost <= Math.floor(budget * 1000)) best = Math.max(best, value)
  }
  return best
}
const worth = (chosen: readonly boolean[], importance: readonly number[]): number =>
  importance.reduce((s, v, i) => s + (chosen[i] ? v : 0), 0)

describe('the subset of tensors', () => {
  it('is as good as the best of all subsets, and within the budget', () => {
    const tensor = fc.record({ dw: fc.nat(50), dy: fc.nat(50), value: fc.double({ min: -1, max: 1, noNaN: true }) })
    fc.assert(
      fc.property(
        fc.array(tensor, { minLength: 1, maxLength: 10 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (ts, budget) => {
          const costs = ts.map((t, i) => ({ name: String(i), dw: t.dw + 1, dy: t.dy }))
          const values = ts.map((t) => t.value)
          const found = selectTensors(costs, values, budget)
          const scale = 1000 / costs.reduce((s, c) => s + c.dw + c.dy, 0)
          const deepest = found.lastIndexOf(true)
          const cost = costs.reduce(
            (s, c, k) => s + (k <= deepest ? Math.floor(c.dy * scale) : 0) + (found[k] ? Math.floor(c.dw * scale) : 0),
            0,
          )
          expect(cost).toBeLessThanOrEqual(Math.floor(budget * 1000))
          expect(worth(found, values)).toBeCloseTo(brute(costs, values, budget), 9)
        },
      ),
      { numRuns: 200 },
    )
  })

  it('is everything where all help and ρ is 1', () => {
    const costs = tensorCosts(network, sites, [2, 8])
    const found = selectTensors(
      costs,
      costs.map(() => 0.5),
      backwardShare(1, costs),
    )
    expect(found.every(Boolean)).toBe(true)
    expect(() => selectTensors(costs, [1], 1)).toThrow('1 importances for')
  })
})

describe('costs', () => {
  it('go from the head to the embedding, by what each product multiplies', () => {
    const costs = tensorCosts(network, sites, [2, 8])
    expect(costs[0]).toEqual({ name: 'head', dw: 16 * 24 * 16, dy: 16 * 24 * 16 })
    expect(costs[1]).toEqual({ name: 'norm', dw: 16 * 16, dy: 16 * 16 })
    expect(costs[2]).toEqual({ name: 'blocks.1.mlp.down', dw: 16 * 16 * 24, dy: 16 * 16 * 24 })
    // behind the attention core
    expect(costs.find((c) => c.name === 'blocks.1.attn.v')!.dy).toBe(16 * 8 * 16 + 4 * 2 * 8 * 8 * 16)
    expect(costs.find((c) => c.name === 'blocks.1.attn.o')!.dy).toBe(16 * 16 * 16)
    expect(costs.at(-1)).toEqual({ name: 'embed', dw: 24 * 16, dy: 0 })
    const tied = tinyLlama(rng(0), { tied: true })
    const of = tensorCosts(tied, sitesOf(tied), [2, 8])
    expect(of[0]).toEqual({ name: 'norm', dw: 256, dy: 256 + 16 * 24 * 16 })
    expect(of.at(-1)).toEqual({ name: 'embed', dw: 17 * 24 * 16, dy: 0 })
  })

  it('leave a backward pass its share, at least a twentieth', () => {
    const costs = [{ name: 'a', dw: 1, dy: 1 }]
    expect(backwardShare(1, costs)).toBe(1)
    expect(backwardShare(0.5, costs)).toBe(0.25)
    expect(backwardShare(0.1, costs)).toBe(0.05)
  })
})

describe('importance', () => {
  it('is −g₁·Δw, by the largest, and changes nothing', async () => {
    // loss a²/2 + 2b²: g₀ = [2, 4], Δw = −0.5·g₀ = [−1, −2], g₁ = [1, −4] → I = [1, −8] / 8
    const params = { a: tensor([2]), b: tensor([1]) }
    const loss = ({ a, b }: Params): Scalar => add(mul(sum(square(a!)), 0.5), mul(sum(square(b!)), 2)) as Scalar
    expect(await importanceOf(loss, params, sgd({ lr: 0.5 }))).toEqual({ a: 0.125, b: -1 })
    expect([params.a.dataSync()[0], params.b.dataSync()[0]]).toEqual([2, 1])
  })

  it('chooses tensors of a network, whose others have no gradient', async () => {
    const batch: Batch = {
      shape: [1, 4],
      ids: Int32Array.from([1, 2, 3, 4]),
      targets: Int32Array.from([2, 3, 4, -100]),
      positions: Int32Array.from([0, 1, 2, 3]),
      segments: new Int32Array(4).fill(1),
    }
    const whole = attach(network, [], rng(0), { train: '**' })
    const loss = (params: Params): Scalar => nextToken(whole.run(params, inputsOf(batch)), batch)
    const importance = await importanceOf(loss, whole.params, adamw({ lr: 1e-3 }))
    const names = greenTrainer({ importance, batch: [1, 4], rho: 0.5 })(network, sites, rng(0))
    expect(names.length).toBeGreaterThan(0)
    expect(names.length).toBeLessThan(Object.keys(importance).length)
    expect(Object.keys(attach(network, [], rng(0), { train: [...names] }).params).sort()).toEqual([...names].sort())
  })

  it('must be known of every tensor; ρ must be a share', () => {
    expect(() => greenTrainer({ importance: {}, batch: [1, 4] })(network, sites, rng(0))).toThrow(
      'head has no importance',
    )
    expect(() => greenTrainer({ importance: {}, batch: [1, 4], rho: 0 })(network, sites, rng(0))).toThrow('found 0')
  })
})
