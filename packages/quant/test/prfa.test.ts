import { attach, complete } from '@weftjs/model'
import type { Attention, RunContext } from '@weftjs/spec'
import { cpu, mul, rng, type Tensor, tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { beforeAll, describe, expect, it } from 'vitest'
import { blockChance, type PrfaOptions, prfa } from '../src/kv/prfa.ts'

beforeAll(async () => void (await cpu()))
const numbers = (t: Tensor): number[] => [...t.dataSync()]

/** the bias that the core is called with, [H][T][K] */
const biasOf = (
  options: PrfaOptions,
  {
    heads = 2,
    queries = 12,
    keys = 12,
    seed = 1,
    bias,
  }: { heads?: number; queries?: number; keys?: number; seed?: number; bias?: Tensor } = {},
): number[][][] => {
  let seen: Tensor | undefined
  const next = (x: Attention): Tensor => {
    seen = x.bias
    return x.q
  }
  const x = {
    q: rng(1).normal([1, heads, queries, 4]),
    k: rng(2).normal([1, heads, keys, 4]),
    v: rng(3).normal([1, heads, keys, 4]),
    causal: true,
    ...(bias && { bias }),
  }
  prfa(options).attend!(next, x, {}, {
    training: true,
    rng: rng(seed),
    site: { name: 'core' },
  } as unknown as RunContext)
  const flat = numbers(seen!)
  return Array.from({ length: heads }, (_, h) =>
    Array.from({ length: queries }, (_, t) => flat.slice((h * queries + t) * keys, (h * queries + t + 1) * keys)),
  )
}

describe('prfa', () => {
  it('takes or leaves whole blocks, always its own, the near ones more often', () => {
    const taken = new Map<number, number[]>()
    for (let seed = 0; seed < 400; seed++) {
      const [head] = biasOf({ block: 3, half: 2, floor: 0.2 }, { seed, heads: 1 })
      for (let row = 0; row < 4; row++)
        for (let column = 0; column <= row; column++) {
          const block = [0, 1, 2].flatMap((t) => head![3 * row + t]!.slice(3 * column, 3 * column + 3))
          expect(new Set(block).size).toBe(1)
          const d = row - column
          taken.set(d, [...(taken.get(d) ?? []), block[0] === 0 ? 1 : 0])
        }
    }
    for (const [d, rows] of taken) {
      const [share, chance] = [rows.reduce((a, b) => a + b, 0) / rows.length, blockChance(d, { half: 2, floor: 0.2 })]
      // five standard deviations
      expect(Math.abs(share - chance), `${d} blocks back`).toBeLessThanOrEqual(
        5 * Math.sqrt((chance * (1 - chance)) / rows.length),
      )
    }
    expect([0, 1, 2, 100].map((d) => blockChance(d, { half: 2, floor: 0.2 }))).toEqual([1, 2 ** -0.5, 0.5, 0.2])
  })

  it('unbiased, the mean weight of a block is 1', () => {
    const sums = [0, 0, 0]
    const n = 3000
    for (let seed = 0; seed < n; seed++) {
      const [head] = biasOf({ block: 4, half: 1, unbiased: true, floor: 0 }, { seed, heads: 1 })
      for (let d = 0; d < 3; d++) sums[d]! += Math.exp(head![11]![11 - 4 * d]!) / n
    }
    // the weight is 1/P with chance P
    for (const [d, sum] of sums.entries())
      expect(Math.abs(sum - 1)).toBeLessThan(5 * Math.sqrt((2 ** d - 1) / n) + 1e-9)
  })

  it('counts blocks from the place of a query behind a cache, and adds to the bias that is there', () => {
    const last = biasOf({ block: 2, half: 1e-3, floor: 0 }, { queries: 1, keys: 9, heads: 1 })[0]![0]!
    expect(last).toEqual([-1e9, -1e9, -1e9, -1e9, -1e9, -1e9, -1e9, -1e9, 0].map(Math.fround))
    const bias = tensor(Float32Array.of(1, 2, 3, 4), [1, 1, 1, 4])
    expect(biasOf({ half: 1e9, floor: 1 }, { queries: 1, keys: 4, bias })[1]![0]).toEqual([1, 2, 3, 4])
  })

  it('with P = 1 is dense attention, and acts in training only unless told so', async () => {
    const network = tinyLlama(rng(3))
    const ids = tensor(
      Int32Array.from({ length: 20 }, (_, i) => (7 * i) % 24),
      [1, 20],
      'int32',
    )
    const logits = (options: PrfaOptions | undefined, training: boolean): number[] => {
      const tuned = attach(network, options ? [{ adapter: prfa(options), at: '**.core' }] : [], rng(0))
      const pass = tuned.run(tuned.params, { ids }, training ? { training, rng: rng(5) } : {})
      return numbers(mul(pass.head(pass.hidden), 1))
    }
    const gap = (a: number[], b: number[]): number => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)))
    const dense = logits(undefined, false)
    expect(gap(logits({ floor: 1, block: 4 }, true), dense)).toBeLessThan(1e-5)
    expect(logits({ floor: 0, half: 0.1, block: 4 }, false)).toEqual(dense)
    expect(gap(logits({ floor: 0, half: 0.1, block: 4 }, true), dense)).toBeGreaterThan(1e-2)
    const always = logits({ floor: 0, half: 0.1, block: 4, always: 1 }, false)
    expect(gap(always, dense)).toBeGreaterThan(1e-2)
    expect(logits({ floor: 0, half: 0.1, block: 4, always: 1 }, false)).toEqual(always)
    // the first block sees itself only, and that always
    expect(gap(always.slice(0, 4 * 24), dense.slice(0, 4 * 24))).toBeLessThan(1e-5)
    const tuned = attach(network, [{ adapter: prfa({ block: 4, always: 2 }), at: '**.core' }], rng(0))
    expect((await complete(tuned, [[1, 2, 3]], { maxTokens: 9, ends: [] }))[0]!.ids).toHaveLength(9)
  })

  it('refuses what is no chance, and attention that looks ahead', () => {
    expect(() => prfa({ block: 0 })).toThrow('prfa: block must be a whole number')
    expect(() => prfa({ floor: 2 })).toThrow('prfa: floor must be a chance, found 2')
    expect(() => prfa({ half: 0 })).toThrow('prfa: half must be above 0')
    const x = { q: rng(1).normal([1, 1, 2, 4]), k: rng(2).normal([1, 1, 2, 4]), v: rng(3).normal([1, 1, 2, 4]) }
    const context = { training: true, rng: rng(1), site: { name: 'blocks.0.attn.core' } } as unknown as RunContext
    expect(() => prfa().attend!((y) => y.q, { ...x, causal: false }, {}, context)).toThrow(
      'blocks.0.attn.core: prfa counts blocks back from each query; it needs causal attention',
    )
  })
})
