import { attach, calibrate, type Tuned } from '@weftjs/model'
import type { Adapter, Params, Tensor } from '@weftjs/spec'
import { add, countParams, cpu, mapParams, rng, tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { flatOf } from '../src/shared/sparse.ts'
import { topOfAll } from '../src/shared/top-of-all.ts'
import { under } from '../src/shared/under.ts'
import { type SptOptions, spt, sptPlan, trainable } from '../src/spt.ts'
import { batchAt, distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const AT = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const batches = Array.from({ length: 2 }, (_, i) => batchAt(i))
const seen = await calibrate(network, batches, { statistics: ['fisher'], at: AT })
const logits = (tuned: Tuned, params: Params = tuned.params): Tensor => tuned.forward(params, { ids }).logits
const on = (options: SptOptions): Tuned => attach(network, [{ adapter: spt(options), at: AT }], rng(1), { seen })
const kinds = (tuned: Tuned): Record<string, 'lora' | number> =>
  Object.fromEntries(
    tuned.bound.map((b) => [b.site.name, b.keys.includes('a') ? 'lora' : tuned.params[`${b.prefix}.values`]!.size]),
  )

describe('the best of many arrays', () => {
  it('are those of a sort, the first of equal ones first', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.constantFrom(0, 1e-30, 0.5, 0.5000001, 3, 3.0001, 1e20), { maxLength: 12 }), {
          minLength: 1,
          maxLength: 5,
        }),
        fc.integer({ min: 1, max: 30 }),
        (arrays, most) => {
          const all = arrays.flatMap((a, from) => a.map((v, flat) => [from, flat, Math.fround(v)] as const))
          const want = all.sort((a, b) => b[2] - a[2]).slice(0, most)
          const { from, flat, value } = topOfAll((i) => Float32Array.from(arrays[i]!), arrays.length, most)
          expect(Array.from(from, (f, i) => [f, flat[i], value[i]])).toEqual(want)
        },
      ),
    )
  })
})

describe('spt', () => {
  it('takes the τ most sensitive numbers of all matrices where none gets LoRA', () => {
    const tuned = on({ top: 50, kappa: 0 })
    expect(countParams(tuned.params)).toBe(50)
    const all = Object.entries(seen).flatMap(([name, s]) =>
      Array.from(s.get('fisher').dataSync() as Float32Array, (g, i) => ({ key: `${name} ${i}`, g })),
    )
    const want = all
      .sort((a, b) => b.g - a.g)
      .slice(0, 50)
      .map((x) => x.key)
    const found = tuned.bound.flatMap(({ site, prefix }) =>
      Array.from(flatOf(tuned.constants[`${prefix}.places`]!, site.in), (i) => `${site.name} ${i}`),
    )
    expect(found.sort()).toEqual(want.sort())
  })

  it('gives LoRA to every matrix that is touched where κ is large, and by P/κ in between', () => {
    expect(new Set(Object.values(kinds(on({ top: 50, kappa: 1e9, rank: 2 }))))).toEqual(new Set(['lora']))
    const sparse = kinds(on({ top: 300, kappa: 0 }))
    const mixed = kinds(on({ top: 300, kappa: 4, rank: 2 }))
    expect(Object.keys(mixed)).toEqual(Object.keys(sparse))
    for (const [name, n] of Object.entries(sparse)) {
      const [out, input] = network.weights[name]!.shape
      expect(mixed[name], name).toBe((n as number) >= (2 * (out + input)) / 4 ? 'lora' : n)
    }
    expect(new Set(Object.values(mixed)).has('lora')).toBe(true)
    expect(Object.values(mixed).some((n) => n !== 'lora')).toBe(true)
  })

  it('changes nothing at the start, and its total is near the budget', () => {
    for (const budget of [60, 200, 400]) {
      const tuned = on({ budget, rank: 1, kappa: 4 })
      expect(Math.abs(countParams(tuned.params) - budget)).toBeLessThanOrEqual(40) // one LoRA of rank 1 more or less
      expect(distance(logits(tuned).dataSync(), logits(attach(network, [], rng(0))).dataSync())).toBeLessThan(1e-6)
    }
  })

  it.each([
    { top: 50, kappa: 0 },
    { top: 300, kappa: 4, rank: 2 },
    { top: 300, kappa: 0.5, rank: 1 },
    { budget: 400, rank: 1 },
  ])('no site has more than its bound, and a plan says how many exactly, %j', (options) => {
    const tuned = on(options)
    for (const { site, prefix } of tuned.bound) {
      const found = countParams(under(`${prefix}.`, tuned.params))
      const plan = { [site.name]: kinds(tuned)[site.name]! }
      expect(trainable(site, options)).toBeGreaterThanOrEqual(found)
      expect(trainable(site, { ...options, plan })).toBe(found)
      expect(trainable(site, { ...options, plan: {} })).toBe(0)
    }
  })

  it('a plan stands for the calibration when it is loaded', () => {
    const tuned = on({ top: 300, kappa: 4, rank: 2, dropout: 0 })
    const params = mapParams(tuned.params, (p, n) => add(p, rng(2).fork(n).normal(p.shape, 0.3)))
    const plan = sptPlan(
      Object.fromEntries(
        tuned.bound.map((b) => [
          b.site.name,
          Object.fromEntries(b.keys.map((k) => [k, { ...tuned.constants, ...params }[`${b.prefix}.${k}`]!])),
        ]),
      ),
    )
    const adapter: Adapter<any> = spt({ rank: 2, dropout: 0, plan: JSON.parse(JSON.stringify(plan)) })
    expect(adapter.calibrates).toBeUndefined()
    const fresh = attach(network, [{ adapter, at: AT }], rng(5))
    expect(mapParams(fresh.params, (p) => p.shape)).toEqual(mapParams(tuned.params, (p) => p.shape))
    expect(logits(fresh, params).shape).toEqual([2, 4, 24])
  })

  it('says what cannot be', () => {
    expect(() => attach(network, [{ adapter: spt(), at: AT }], rng(0))).toThrow(
      "'spt' starts from a calibration pass (fisher)",
    )
    expect(() => on({ top: 1e6 })).toThrow(/spt: top 1000000 exceeds the \d+ numbers at its sites/)
    expect(() => spt({ kappa: -1 })).toThrow('spt: kappa must be at least 0, found -1')
    expect(() => spt({ budget: 0.5 })).toThrow('spt: budget must be a whole number of at least 1, found 0.5')
    const none = Object.fromEntries(
      Object.entries(seen).map(([n, s]) => [
        n,
        { ...s, get: () => tensor(new Float32Array(network.weights[n]!.shape[0] * network.weights[n]!.shape[1])) },
      ]),
    )
    expect(() => attach(network, [{ adapter: spt(), at: AT }], rng(0), { seen: none as never })).toThrow(
      'no gradient reaches the sites',
    )
  })
})
