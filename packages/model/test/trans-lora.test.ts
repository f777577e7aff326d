import { rng } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { realOrMade, transLora } from '../src/index.ts'

/** inputs of the task are even numbers below 100; the generator makes any number near a seed */
const seeds = [2, 18, 40, 66, 90]
const generate = (near: readonly number[], r: ReturnType<typeof rng>): number =>
  near[0]! + Math.floor(r.numbers(1)[0]! * 21) - 10
const parts = { generate, real: (x: number) => (x % 2 ? 0.1 : 0.9), teach: async (x: number) => x * x }

describe('a transfer without data', () => {
  it('takes inputs that pass as real, all different, and has the teacher answer them', async () => {
    const { examples, made, taken, rate } = await transLora(seeds, parts, rng(1), { count: 20 })
    expect(examples).toHaveLength(20)
    expect(new Set(examples.map((e) => e.input)).size).toBe(20)
    for (const { input, output } of examples) expect([input % 2 === 0, output]).toEqual([true, input * input])
    expect(rate).toBe(taken / made)
    expect(rate).toBeGreaterThan(0.25) // half of all numbers are even
    expect(rate).toBeLessThan(0.75)
    expect(taken).toBeGreaterThanOrEqual(20)
  })

  it('is the same under the same seed, and another under another', async () => {
    const run = async (seed: number) => transLora(seeds, parts, rng(seed), { count: 10 })
    expect(await run(3)).toEqual(await run(3))
    expect(await run(3)).not.toEqual(await run(4))
  })

  it('without a discriminator takes all', async () => {
    const { rate, made } = await transLora(seeds, { generate, teach: (x: number) => x }, rng(1), {
      count: 10,
      budget: 12,
    })
    expect(rate).toBe(1)
    expect(made).toBeLessThanOrEqual(12)
  })

  it('gives as many seeds to a prompt as asked, in orders that differ, and never answers before it has made all', async () => {
    const seen: string[] = []
    const log: string[] = []
    await transLora(
      seeds,
      {
        generate: (near, r) => {
          seen.push(near.join())
          log.push('make')
          return generate(near, r)
        },
        teach: (x) => {
          log.push('teach')
          return x
        },
      },
      rng(1),
      { count: 8, shots: 3 },
    )
    expect(seen.every((s) => s.split(',').length === 3)).toBe(true)
    expect(new Set(seen).size).toBeGreaterThan(3)
    expect(log.indexOf('teach')).toBeGreaterThan(log.lastIndexOf('make'))
  })

  it('stops at its budget, and says at what rate where nothing was taken', async () => {
    const { examples, made } = await transLora(seeds, parts, rng(1), { count: 1000, budget: 30 })
    expect([made, examples.length < 30]).toEqual([30, true])
    await expect(transLora(seeds, { ...parts, real: () => 0.5 }, rng(1), { count: 4 })).rejects.toThrow(
      'transLora: none of 40 inputs was taken as real (rate 0); lower threshold, raise budget or train the discriminator longer',
    )
    await expect(transLora([], parts, rng(1), { count: 4 })).rejects.toThrow(
      'transLora: there is no seed to begin from',
    )
    await expect(transLora(seeds, parts, rng(1), { count: 0 })).rejects.toThrow(
      'count must be a whole number of at least 1, found 0',
    )
  })

  it('teaches a discriminator with as many made as real', async () => {
    const data = [2, 4, 6, 8, 10, 12]
    const rows = await realOrMade(data, seeds, generate, rng(2))
    expect(
      rows
        .filter((r) => r.real)
        .map((r) => r.input)
        .sort((a, b) => a - b),
    ).toEqual(data)
    expect(rows.filter((r) => !r.real)).toHaveLength(6)
    expect(rows.slice(0, 6).every((r) => r.real)).toBe(false)
    expect(await realOrMade(data, seeds, generate, rng(2))).toEqual(rows)
  })
})
