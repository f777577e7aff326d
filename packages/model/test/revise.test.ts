import type { Adapter, Params, Revision, Tensor, Tensor2D } from '@weftjs/spec'
import { add, concat, cpu, keep, mapParams, memory, mul, rng, slice, tensor, tidy, zeros } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { lowRank, scaleRows, sum } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { attach, revising } from '../src/index.ts'

await cpu()

type State = Record<string, Tensor>
/** W + diag(mask)·B·A: its rank grows by one with each step, and its mask is the number of steps */
const growing = (odd: Partial<State> = {}): Adapter<State> => ({
  name: 'growing',
  init: ({ weight }, { rng }) => ({
    state: { a: rng.normal([1, weight!.shape[1]]), b: rng.normal([weight!.shape[0], 1]), mask: tensor([1, 1]) },
    trains: ['a', 'b'],
  }),
  weight: (base, { a, b, mask }) =>
    sum(base, scaleRows(mul(slice(mask!, 0, 1), 1), lowRank(b! as Tensor2D, a! as Tensor2D))),
  revise: (sites, { step, rng }) =>
    Object.fromEntries(
      Object.entries(sites).map(([name, { state, grads, site }]): [string, Revision<State>] => {
        if (grads['mask'] || !grads['a']) throw new Error('gradients of what trains, and of nothing else')
        const { a, b } = state
        return [
          name,
          {
            state: {
              a: concat([a!, rng.fork(site.name).normal([1, a!.shape[1]!])], 0),
              b: concat([b!, zeros([b!.shape[0]!, 1])], 1),
              mask: tensor([step, 1]),
              ...odd,
            },
            moments: { a: (t) => concat([t, zeros([1, t.shape[1]!])], 0) },
          },
        ]
      }),
    ),
})
const network = tinyLlama(rng(1))
const at = 'blocks.*.attn.{q,k}'
const ids = { ids: tensor([1, 2, 3], [1, 3], 'int32') }

describe('revising', () => {
  it('replaces params of other shapes, holds what moved among the constants, and runs with it', async () => {
    const tuned = attach(network, [{ adapter: growing(), at }], rng(2))
    const live = revising(tuned, { steps: 4, seed: 1 })
    expect(live.active).toBe(true)
    expect(live.tuned).toBe(tuned)
    let params = tuned.params
    const grads = mapParams(params, (p) => mul(p, 1))
    const counts: number[] = []
    for (const step of [1, 2, 3]) {
      const before = memory().numTensors
      const kept: Params = tidy(() => mapParams(live.revise(params, grads, step).params, (t) => keep(add(t, 0))))
      if (step > 1) counts.push(memory().numTensors - before)
      params = kept
    }
    expect(counts).toEqual([8, 8]) // the params of this test; buffers take the place of buffers
    expect(params['blocks.0.attn.q.growing.a']!.shape).toEqual([4, 16])
    expect(Object.keys(live.buffers).sort()).toEqual(
      ['blocks.0.attn.k', 'blocks.0.attn.q', 'blocks.1.attn.k', 'blocks.1.attn.q'].map((s) => `${s}.growing.mask`),
    )
    expect([...live.buffers['blocks.0.attn.q.growing.mask']!.dataSync()]).toEqual([3, 1])
    expect([...tuned.constants['blocks.0.attn.q.growing.mask']!.dataSync()]).toEqual([1, 1])
    // three times the update, in a pass and folded
    const want = attach(live.tuned.fold(params), [], rng(0)).forward({}, ids).logits.dataSync()
    const pass = live.run(params, ids)
    const found = pass.head(pass.hidden).dataSync()
    want.forEach((v, i) => {
      expect(found[i]).toBeCloseTo(v, 4)
    })
    const start = tuned.forward(params, ids).logits.dataSync()
    expect(Math.max(...start.map((v, i) => Math.abs(v - found[i]!)))).toBeGreaterThan(1e-2)
  })

  it('gives moments by the names of params, and the same revision for the same seed and step', () => {
    const of = (seed: number): number[] => {
      const tuned = attach(network, [{ adapter: growing(), at, name: 'mine' }], rng(2))
      const { params, moments } = revising(tuned, { steps: 4, seed }).revise(tuned.params, tuned.params, 2)
      expect(Object.keys(moments).sort()[0]).toBe('blocks.0.attn.k.mine.a')
      expect(moments['blocks.0.attn.k.mine.a']!(zeros([1, 16]), 'm').shape).toEqual([2, 16])
      return [...params['blocks.0.attn.q.mine.a']!.dataSync()]
    }
    expect(of(1)).toEqual(of(1))
    expect(of(1)).not.toEqual(of(2))
  })

  it('loads saved buffers; refuses those of others, and a revision of what is not held', () => {
    const tuned = attach(network, [{ adapter: growing(), at }], rng(2))
    const live = revising(tuned, { steps: 4 })
    const name = 'blocks.0.attn.q.growing.mask'
    expect([live.owns(name), live.owns('blocks.0.attn.q.growing.a'), live.owns('embed')]).toEqual([true, true, false])
    live.load({ [name]: tensor([7, 1]) })
    expect([...live.tuned.constants[name]!.dataSync()]).toEqual([7, 1])
    for (const odd of ['embed', 'blocks.0.attn.q.growing.a'])
      expect(() => live.load({ [odd]: tensor([1]) })).toThrow(`${odd}: no adapter here keeps such a tensor`)
    const wrong = attach(network, [{ adapter: growing({ other: tensor([1]) }), at }], rng(2))
    const before = memory().numTensors
    expect(() =>
      tidy(() => {
        revising(wrong, { steps: 4 }).revise(wrong.params, wrong.params, 1)
      }),
    ).toThrow("blocks.0.attn.q: 'growing' revises other, which it does not hold there")
    expect(memory().numTensors).toBe(before)
  })

  it('is nothing where no adapter revises', () => {
    const { revise: _, ...still } = growing()
    const tuned = attach(network, [{ adapter: still, at }], rng(2))
    const live = revising(tuned, { steps: 4 })
    expect(live.active).toBe(false)
    const { params, moments, buffers } = live.revise(tuned.params, tuned.params, 1)
    expect(params).toEqual(tuned.params)
    expect([moments, buffers]).toEqual([{}, {}])
  })
})
