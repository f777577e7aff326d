import { attach, nextToken, revising } from '@weftjs/model'
import { adamw, sgd, train } from '@weftjs/optim'
import { add, mapParams, memory, rng, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { type AdaloraOptions, adalora } from '../src/adalora.ts'
import { distance, model, safetensors } from './fixture.ts'
import { network, one, plus, times } from './one.ts'

const batch = (values: ArrayLike<number>, [B, T]: [number, number]) => {
  const ids = Int32Array.from(values)
  return {
    shape: [B, T] as const,
    ids,
    targets: ids.map((_, i) => (i % T === T - 1 ? -100 : ids[i + 1]!)),
  }
}
const inputs = ({ ids, shape }: ReturnType<typeof batch>) => ({ ids: tensor(ids, [...shape], 'int32') })

describe('adalora', () => {
  it('is W + α/(r₀ + 10⁻⁵)·P·Λ·Q, and counts r·(in + out + 1)', () => {
    const { state, w, after, params } = one(adalora({ start: 3, rank: 2, alpha: 6 }))
    const scaled = state('a').map((row, i) => row.map((v) => (v * state('e')[i]![0]! * 6) / (3 + 1e-5)))
    expect(
      Math.max(
        ...plus(after, plus(w, times(state('b'), scaled)), -1)
          .flat()
          .map(Math.abs),
      ),
    ).toBeLessThan(1e-5)
    expect(Object.values(params).reduce((n, p) => n + p.size, 0)).toBe(3 * (24 + 16 + 1))
  })

  it("takes PEFT's steps: the losses with their penalty, and after each step the triplets that are left", async () => {
    const reference = await safetensors('peft/adalora/reference.safetensors')
    const options: AdaloraOptions = { start: 4, rank: 2, alpha: 16, warm: 1, final: 2 }
    const base = await model('llama3')
    const tuned = attach(base, [{ adapter: adalora(options), at: 'blocks.*.{attn,mlp}.{q,k,up,down}' }], rng(1))
    const key = (n: string): string => {
      const b = tuned.bound.find(({ prefix }) => n.startsWith(`${prefix}.`))!
      return `base_model.model.${b.site.module}.lora_${n.slice(-1).toUpperCase()}.default`
    }
    const params: Record<string, ReturnType<typeof tensor>> = {}
    for (const n of Object.keys(tuned.params))
      params[n] = tensor(await reference.floats(`start.${key(n)}`), tuned.params[n]!.shape)
    const x = batch(await reference.ints('input_ids'), [2, 10])
    const losses = await reference.floats('losses')
    const live = revising(tuned, { steps: 8 })
    const counts = new Set<number>()
    for await (const s of train({
      params,
      data: Array(8).fill(x) as (typeof x)[],
      transform: sgd({ lr: 0.02 }),
      loss: (p, b) => nextToken(live.run(p, inputs(b), { training: true }), b),
      revise: live.revise,
    })) {
      if (s.step > 1) counts.add(s.tensors) // from the first cut on the masks are not those of the start
      expect(Math.abs(s.loss / losses[s.step - 1]! - 1)).toBeLessThan(1e-3)
      for (const n of Object.keys(params).filter((n) => n.endsWith('.e'))) {
        const want = await reference.floats(`step.${s.step}.${key(n)}`)
        const found = await s.params[n]!.data()
        expect(
          [...found].map((v) => v === 0),
          `${n} at ${s.step}`,
        ).toEqual([...want].map((v) => v === 0))
        expect(distance(found as Float32Array, want)).toBeLessThan(2e-2)
      }
    }
    expect(counts.size).toBe(1)
  })

  it('ends at the budget, with ranks that differ, and stays there', async () => {
    const tuned = attach(network, [{ adapter: adalora({ start: 4, rank: 1, final: 3 }), at: '**.{q,k,v,up}' }], rng(1))
    const live = revising(tuned, { steps: 12 })
    const x = batch(
      Array.from({ length: 16 }, (_, i) => (i * 7) % 24),
      [2, 8],
    )
    const left: number[][] = []
    for await (const s of train({
      params: tuned.params,
      data: Array(12).fill(x) as (typeof x)[],
      transform: adamw({ lr: 0.05 }),
      loss: (p, b) => nextToken(live.run(p, inputs(b), { training: true }), b),
      revise: live.revise,
    }))
      left.push(
        Object.entries(s.params)
          .filter(([n]) => n.endsWith('.e'))
          .map(([, e]) => Array.from(e.dataSync()).filter((v) => v !== 0).length),
      )
    const totals = left.map((ranks) => ranks.reduce((a, b) => a + b, 0))
    // trunc((32 − 8)·(1 − t/9)³ + 8), t up to 9, and 8 from there on
    const want = Array.from({ length: 12 }, (_, i) => Math.trunc(24 * (1 - Math.min(i + 1, 9) / 9) ** 3 + 8))
    expect(totals).toEqual(want)
    expect(new Set(left.at(-1)).size).toBeGreaterThan(1)
    expect(left.at(-1)).toEqual(left.at(-3))
  })

  it('with no budget to save and no penalty it cuts nothing', async () => {
    const tuned = attach(network, [{ adapter: adalora({ start: 2, rank: 2, orthogonal: 0 }), at: '**.q' }], rng(1))
    const live = revising(tuned, { steps: 3 })
    const params = mapParams(tuned.params, (p) => add(p, 0.1))
    const before = memory().numTensors
    const { params: after } = live.revise(params, params, 1)
    for (const n of Object.keys(params)) expect(after[n]).toBe(params[n])
    expect(memory().numTensors).toBeGreaterThan(before)
  })

  it('refuses a schedule that leaves no step to cut in, and budgets above the start', () => {
    const tuned = attach(network, [{ adapter: adalora({ warm: 5, final: 5 }), at: '**.q' }], rng(1))
    const live = revising(tuned, { steps: 10 })
    expect(() => live.revise(tuned.params, tuned.params, 1)).toThrow(
      'adalora: 5 steps before and 5 after leave none of 10',
    )
    expect(() => adalora({ start: 4, rank: 5 })).toThrow('adalora: rank 5 exceeds start 4')
    expect(() => adalora({ b1: 1 })).toThrow('adalora: b1 must be between 0 and 1')
    expect(() => adalora({ orthogonal: -1 })).toThrow('adalora: orthogonal')
  })
})
