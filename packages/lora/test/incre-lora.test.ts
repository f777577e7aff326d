import { attach, nextToken, revising } from '@weftjs/model'
import type { Params } from '@weftjs/spec'
import { applyUpdates, backprop, cpu, mapParams, mul, rng, tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { type IncreLoraOptions, increLora } from '../src/incre-lora.ts'
import { distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const batch = { shape: [2, 4] as const, targets: Int32Array.of(2, 3, 4, 5, 6, 7, 8, 9) }
const at = 'blocks.*.attn.{q,v}'
const tune = (options: IncreLoraOptions = {}, where = at) =>
  attach(network, [{ adapter: increLora(options), at: where }], rng(1))
const rankOf = (params: Params): number[] =>
  Object.entries(params).flatMap(([n, t]) => (n.endsWith('lambda') ? [t.size] : []))

/** gradient descent with the revisions of the adapter */
const train = (
  options: IncreLoraOptions,
  steps: number,
  visit: (step: number, before: Params, after: Params) => void = () => {},
) => {
  const run = revising(tune(options), { steps, seed: 3 })
  let params: Params = run.tuned.params
  for (let step = 1; step <= steps; step++) {
    const { grads } = backprop((p) => nextToken(run.run(p, { ids }, { training: true }), batch), params)
    const before = applyUpdates(
      params,
      mapParams(grads, (g) => mul(g, -0.3)),
    )
    params = run.revise(before, grads, step).params
    visit(step, before, params)
  }
  return { run, params }
}

describe('incre-lora', () => {
  it('begins as the network exactly, but for a reserve that learns ahead', async () => {
    const plain = await attach(network, [], rng(0)).forward({}, { ids }).logits.data()
    for (const [advance, gap] of [
      [false, 0],
      [true, 1e-5],
    ] as const) {
      const tuned = tune({ advance })
      const d = distance(await tuned.forward(tuned.params, { ids }).logits.data(), plain)
      expect(d).toBeLessThanOrEqual(gap)
    }
  })

  it('grows the sites that matter most, some at a time, exactly to the target, and drops the reserve there', async () => {
    const totals: number[] = []
    const { params, run } = train({ target: 3, top: 3, every: 4, warm: 2, rank: 1 }, 20, (_, __, after) => {
      totals.push(rankOf(after).reduce((a, b) => a + b))
    })
    // 4 sites: from 4 to 12 by 3 at steps 6, 10 and by the 2 that are left at 14
    expect(totals).toEqual([4, 4, 4, 4, 4, 7, 7, 7, 7, 10, 10, 10, 10, 12, 12, 12, 12, 12, 12, 12])
    for (const [name, t] of Object.entries(params))
      if (name.endsWith('.a')) expect(t.shape[0]).toBe(params[name.replace(/a$/, 'lambda')]!.size)
    const out = await run.run(params, { ids }).hidden.data()
    const folded = attach(run.tuned.fold(params), [], rng(0))
    expect(distance(await folded.run({}, { ids }).hidden.data(), out)).toBeLessThan(1e-5)
  })

  it('gives rank to the sites of the highest score', () => {
    const adapter = increLora({ target: 2, top: 1, every: 1, warm: 0, advance: false })
    const tuned = tune()
    const sites = Object.fromEntries(
      tuned.bound.map(({ site, prefix }, i) => {
        const own = (key: string) => (tuned.params[`${prefix}.${key}`] ?? tuned.constants[`${prefix}.${key}`])!
        const state = Object.fromEntries(['a', 'b', 'lambda', 'reserve', 'mean', 'spread'].map((k) => [k, own(k)]))
        const size = [1, 5, 3, 2][i]!
        const grads = { a: mul(state['a']!, size), b: mul(state['b']!, size), lambda: state['lambda']! }
        return [site.name, { site, state, grads }]
      }),
    )
    const found = adapter.revise!(sites as never, { step: 1, steps: 50, rng: rng(0) })
    const grew = Object.entries(found).flatMap(([n, { state }]) => (state.lambda ? [n] : []))
    expect(grew).toEqual(['blocks.0.attn.v'])
  })

  it('scores by the sums of |A ⊙ ∂A| and |B ⊙ ∂B|, averaged as the paper does, by hand', async () => {
    const adapter = increLora({ b1: 0.5, b2: 0.25, warm: 10 })
    const site = { name: 'w', kind: 'linear', layer: 0, in: 2, out: 2 }
    const state = {
      ...{
        a: tensor([1, -2, 0, 0], [2, 2]),
        b: tensor([3, 0, 1, 0], [2, 2]),
        lambda: tensor([1]),
        reserve: tensor([0]),
      },
      ...{ mean: tensor([2]), spread: tensor([4]) },
    }
    const grads = { a: tensor([1, 1, 1, 1], [2, 2]), b: tensor([-1, 0, 1, 0], [2, 2]) }
    const found = adapter.revise!({ w: { site, state, grads } } as never, { step: 5, steps: 1000, rng: rng(0) })
    // S = (3 + 4)/2/√4 = 1.75; E = ½·2 + ½·1.75; U = ¼·4 + ¾·|1.75 − 1.875|
    expect((await found['w']!.state.mean!.data())[0]).toBeCloseTo(1.875, 6)
    expect((await found['w']!.state.spread!.data())[0]).toBeCloseTo(1 + 0.75 * 0.125, 6)
  })

  it('changes the update only by R/(R + increment) as it grows, and not at all with a fixed scale', async () => {
    for (const scaling of ['rank', 'fixed'] as const) {
      let checked = 0
      const base = await network.weights['blocks.0.attn.q']!.dense().data()
      const pending: Promise<void>[] = []
      const fold = tune({ target: 2, scaling, advance: false }).fold
      train({ target: 2, top: 4, every: 3, warm: 0, scaling, advance: false }, 6, (step, before, after) => {
        if (step !== 3) return
        const name = 'blocks.0.attn.q'
        const [x, y] = [before, after].map((p) => fold(p).weights[name]!.dense())
        pending.push(
          Promise.all([x!.data(), y!.data()]).then(([a, b]) => {
            const factor = scaling === 'rank' ? 0.5 : 1
            const want = Array.from(a, (v, i) => base[i]! + factor * (v - base[i]!))
            expect(distance(b, want)).toBeLessThan(1e-6)
            expect(distance(b, base)).toBeGreaterThan(1e-5)
            checked++
          }),
        )
      })
      await Promise.all(pending)
      expect(checked).toBe(1)
    }
  })

  it('says what is wrong', () => {
    expect(() => increLora({ rank: 3, target: 2 })).toThrow(
      'incre-lora: target 2 is below the first rank 3; raise target',
    )
    expect(() => tune({ top: 9 })).toThrow('blocks.0.attn.q: top 9 exceeds 4 sites; lower top or widen "at"')
    expect(() => tune({ target: 30 })).toThrow('target 30 is 120 ranks in all, and the matrices have 44; lower target')
    expect(() => train({ target: 4, top: 1, every: 10 }, 5)).toThrow(
      'incre-lora: rank 4 takes 12 times of growth, and 5 steps have 0; lower target, every or warm, or raise top',
    )
  })
})
