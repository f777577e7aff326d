import { attach, calibrate } from '@weftjs/model'
import type { Batch, Seen } from '@weftjs/spec'
import { cpu, matMul, rng, tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { eva } from '../src/eva.ts'
import { distance } from './fixture.ts'

await cpu()
const net = tinyLlama(rng(0))
const at = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const batch: Batch = {
  shape: [3, 8],
  ids: Int32Array.from({ length: 24 }, (_, i) => (i * 7) % 24),
  targets: Int32Array.from({ length: 24 }, (_, i) => (i % 8 === 7 ? -100 : (i * 7 + 7) % 24)),
  positions: Int32Array.from({ length: 24 }, (_, i) => i % 8),
  segments: new Int32Array(24).fill(1),
}
const seen = await calibrate(net, [batch], { statistics: ['mean', 'moment'], at })
const attached = (options: object, given: Record<string, Seen> = seen): ReturnType<typeof attach> =>
  attach(net, [{ adapter: eva(options), at }], rng(1), { seen: given })

describe('eva', () => {
  it('begins exactly as the network, with orthonormal rows of A', async () => {
    const want = await attach(net, [], rng(0)).forward({}, { ids }).logits.data()
    const tuned = attached({ rank: 3 })
    expect(distance(await tuned.forward(tuned.params, { ids }).logits.data(), want)).toBe(0)
    for (const { prefix } of tuned.bound) {
      const a = tuned.params[`${prefix}.a`]!
      const [r] = a.shape as [number]
      const eye = Array.from({ length: r * r }, (_, i) => (i % (r + 1) === 0 ? 1 : 0))
      expect(distance(await matMul(a, a, false, true).data(), eye)).toBeLessThan(1e-5)
    }
  })

  it('spends the same ranks, where they explain most; as they were where ρ is 1', () => {
    const ranks = (options: object): number[] => {
      const { bound, params } = attached(options)
      return bound.map((b) => params[`${b.prefix}.a`]!.shape[0]!)
    }
    const spread = ranks({ rank: 3 })
    expect(spread.reduce((a, b) => a + b)).toBe(3 * 14)
    expect(new Set(spread).size).toBeGreaterThan(1)
    expect(Math.max(...spread)).toBeLessThanOrEqual(6)
    expect(new Set(ranks({ rank: 3, rho: 1 }))).toEqual(new Set([3]))
  })

  it('leaves a site alone that wins nothing', () => {
    // q's inputs vary in one direction only, and as much of o's in each of eight
    const of = (values: number[]): Seen => {
      const moment = tensor(
        values.flatMap((v, i) => values.map((_, j) => (i === j ? v : 0))),
        [16, 16],
      )
      const mean = tensor(new Array<number>(16).fill(0))
      return { rows: 99, batches: 1, get: (s) => (s === 'mean' ? mean : moment) }
    }
    const given = {
      'blocks.0.attn.q': of([9, ...new Array<number>(15).fill(0)]),
      'blocks.0.attn.o': of(new Array<number>(16).fill(1)),
    }
    const tuned = attach(net, [{ adapter: eva({ rank: 1, rho: 2 }), at: Object.keys(given) }], rng(1), { seen: given })
    expect(tuned.bound.map((b) => [b.site.name, tuned.params[`${b.prefix}.a`]!.shape[0]])).toEqual([
      ['blocks.0.attn.q', 1],
      ['blocks.0.attn.o', 1],
    ])
    const greedy = {
      ...given,
      'blocks.0.attn.o': of([5, 5, ...new Array<number>(14).fill(0)]),
      'blocks.1.attn.o': of(new Array<number>(16).fill(1)),
    }
    const two = attach(net, [{ adapter: eva({ rank: 1, rho: 2 }), at: Object.keys(greedy) }], rng(1), { seen: greedy })
    expect(two.bound.map((b) => b.site.name)).toEqual(['blocks.0.attn.q', 'blocks.0.attn.o'])
  })

  it('keeps α/r with the rank it has won, or shares α among it', async () => {
    const context = { training: false, inputs: {}, inner: [], shared: {}, scratch: new Map(), penalty: () => {} }
    const { site } = attached({ rank: 3 }).bound[0]!
    const [a, b] = [rng(3).normal([5, site.in]), rng(4).normal([site.out, 5])]
    const change = async (options: object): Promise<number> => {
      const w = eva({ rank: 3, alpha: 6, ...options }).weight!(site.weight!, { a, b } as never, { site, ...context })
      const first = (await w.dense().data())[0]! - (await site.weight!.dense().data())[0]!
      return first / (await matMul(b, a).data())[0]!
    }
    expect(await change({})).toBeCloseTo(2, 4)
    expect(await change({ adjust: false })).toBeCloseTo(6 / 5, 4)
    expect(await change({ rslora: true })).toBeCloseTo((6 * 5) / 3 / Math.sqrt(5), 4)
    expect(await change({ rslora: true, adjust: false })).toBeCloseTo(6 / Math.sqrt(5), 4)
  })

  it('says what is wrong', () => {
    expect(() => attached({ rho: 0.5 })).toThrow('eva: rho must be at least 1, found 0.5')
    expect(() => attached({ rank: 9 })).toThrow('blocks.0.attn.k: rank 9 exceeds min(8, 16); lower rank or narrow "at"')
    expect(() => attached({ rank: 3 }, {})).toThrow(
      /blocks\.0\.attn\.q: 'eva' starts from a calibration pass \(mean, moment\)/,
    )
    const few = Object.fromEntries(Object.entries(seen).map(([n, s]) => [n, { ...s, rows: 6 }]))
    expect(() => attached({ rank: 3 }, few)).toThrow(
      'blocks.0.attn.q: 6 rows are too few for 6 directions; calibrate on more data, or lower rank or rho',
    )
  })
})
