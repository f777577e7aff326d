import { attach, complete, kvCache } from '@weftjs/model'
import { concat, cpu, fill, memory, rng, slice, type Tensor, tensor, wasm } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { decodeGroups, encodeGroups, type Groups, type KvBits } from '../src/kv/groups.ts'
import { type KvPacked, type KvStaircaseOptions, kvStaircase } from '../src/kv/staircase.ts'
import { fixture, floats } from './fixtures.ts'

const numbers = (t: Tensor): number[] => [...t.dataSync()]
const gap = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.max(...Array.from(a, (x, i) => Math.abs(x - b[i]!)))
const group = (bits: KvBits, channels: number, rest: Partial<Groups> = {}): Groups => ({
  bits,
  texts: 2,
  heads: 2,
  width: 12,
  tokens: 4,
  count: 2,
  channels,
  ...rest,
})
const through = (x: Tensor, g: Groups): Tensor => decodeGroups(encodeGroups(x, g), g)

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('on %s', (_, backend) => {
  beforeAll(async () => void (await backend()))

  describe('groups', () => {
    it('keys by channel and values by token give the re-computed numbers', async () => {
      const file = await fixture('kv')
      const x = await floats(file, 'x')
      for (const bits of [2, 4, 8] as const) {
        expect(gap(numbers(through(x, group(bits, 0))), await file.floats(`keys.${bits}`))).toBeLessThan(1e-5)
        expect(gap(numbers(through(x, group(bits, 4))), await file.floats(`values.${bits}`))).toBeLessThan(1e-5)
      }
    })

    it('a number is at most half a step off, and a constant group exact', () => {
      fc.assert(
        fc.property(fc.constantFrom(2, 4, 8), fc.constantFrom(0, 5, 12), fc.nat(1000), (bits, channels, seed) => {
          const x = rng(seed).normal([2, 2, 8, 12])
          const [a, b] = [numbers(x), numbers(through(x, group(bits as KvBits, channels)))]
          const range = Math.max(...a) - Math.min(...a)
          // scale and minimum are rounded to float16, too
          expect(gap(a, b)).toBeLessThanOrEqual(range / (2 ** bits - 1) / 2 + range * 2 ** -10)
        }),
        { numRuns: 30 },
      )
      for (const value of [0, 0.375, -1234])
        for (const bits of [2, 4, 8] as const)
          expect(new Set(numbers(through(fill([2, 2, 8, 12], value), group(bits, 0))))).toEqual(new Set([value]))
    })

    it('in 16 bits are float16, in 32 the very numbers', () => {
      const x = rng(1).normal([2, 2, 8, 12])
      expect(numbers(through(x, group(32, 0)))).toEqual(numbers(x))
      expect(gap(numbers(through(x, group(16, 0))), numbers(x))).toBeLessThan(4 * 2 ** -11)
      expect(encodeGroups(x, group(16, 4)).q.size).toBe(x.size / 2)
    })

    it('of a size that fills no words stand alone', () => {
      const g = group(2, 3, { heads: 1, width: 5, tokens: 3, count: 3 })
      const x = rng(2).normal([2, 1, 9, 5])
      expect(encodeGroups(x, g).q.size).toBe(3 * 2) // 15 codes of 2 bits, for each group and text
      expect(encodeGroups(x, g).grid.size).toBe(3 * 2 * 3 * 2)
      expect(gap(numbers(through(x, g)), numbers(x))).toBeLessThan(0.7)
    })
  })

  describe('the staircase', () => {
    const options: KvStaircaseOptions = {
      window: 8,
      group: 4,
      steps: [{ bits: 8, until: 16 }, { bits: 4, until: 24 }, { bits: 2 }],
    }
    const stream = (T: number, seed = 1, B = 2): { k: Tensor; v: Tensor } => ({
      k: rng(seed).normal([B, 2, T, 8]),
      v: rng(seed + 50).normal([B, 2, T, 8]),
    })
    const cut = (x: Tensor, from: number, n: number): Tensor =>
      slice(x, [0, 0, from, 0], [x.shape[0]!, x.shape[1]!, n, x.shape[3]!])
    /** puts all tokens in, in pieces; the last piece is one token */
    const feed = (store: KvPacked, { k, v }: { k: Tensor; v: Tensor }, sizes: readonly number[]): number[] => {
      let last: number[] = []
      for (let at = 0, i = 0; at < k.shape[2]!; i++) {
        const n = Math.min(sizes[i] ?? 1, k.shape[2]! - at)
        const got = store.extend(cut(k, at, n), cut(v, at, n))
        expect(got.keys).toBe(got.k.shape[2])
        last = [...numbers(got.k), ...numbers(got.v)]
        at += n
      }
      return last
    }

    it('keeps tokens of an age in their step: a group moves when its newest is old enough', () => {
      const store = kvStaircase(options)(Number.POSITIVE_INFINITY)
      const { k, v } = stream(41)
      // of T tokens the group that ends at e has a newest token of age T − e
      for (let T = 1; T <= 41; T++) {
        store.extend(cut(k, T - 1, 1), cut(v, T - 1, 1))
        const ages = Array.from({ length: Math.floor(T / 4) }, (_, j) => T - 4 * (j + 1))
        const count = (from: number, to: number): number => 4 * ages.filter((a) => a >= from && a < to).length
        expect(store.tokens.slice(1), `${T} tokens`).toEqual([count(8, 16), count(16, 24), count(24, 99)])
        expect(store.tokens.reduce((a, b) => a + b)).toBe(T)
      }
      // 9 in full; 8, 8 and 16 of B·G·S·2 = 64 numbers each; scales of 4: keys by channel, values by 4 channels
      const scales = (tokens: number): number => ((tokens / 4) * 32 + tokens * 4 * 2) * 4
      expect(store.tokens).toEqual([9, 8, 8, 16])
      expect(store.bytes).toBe(9 * 64 * 4 + 8 * 64 + 8 * 32 + 16 * 16 + scales(8) + scales(8) + scales(16))
    })

    it('holds the same whatever pieces the tokens came in', () => {
      const all = stream(37)
      const want = feed(kvStaircase(options)(Number.POSITIVE_INFINITY), all, [])
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 15 }), { minLength: 1, maxLength: 6 }), (sizes) => {
          const store = kvStaircase(options)(Number.POSITIVE_INFINITY)
          const before = sizes.reduce((a, b) => a + b)
          // what the last token sees
          if (before < 37) expect(feed(store, all, sizes)).toEqual(want)
          store.dispose()
        }),
        { numRuns: 20 },
      )
    })

    it('the newest tokens are as they were, the older the coarser, none by more than a rounding for each step', () => {
      const { k, v } = stream(48)
      const store = kvStaircase(options)(Number.POSITIVE_INFINITY)
      feed(store, { k: cut(k, 0, 47), v: cut(v, 0, 47) }, [20])
      const got = store.extend(cut(k, 47, 1), cut(v, 47, 1))
      const error = (a: Tensor, b: Tensor, from: number, n: number): number =>
        gap(numbers(cut(a, from, n)), numbers(cut(b, from, n)))
      for (const [a, b] of [
        [got.k, k],
        [got.v, v],
      ] as const) {
        expect(error(a, b, 40, 8)).toBe(0)
        const steps = [error(a, b, 28, 8), error(a, b, 20, 4), error(a, b, 0, 16)]
        expect(steps[0]).toBeLessThan(5 / 255)
        expect(steps[0]).toBeGreaterThan(0)
        expect(steps[1]).toBeGreaterThan(steps[0]!)
        expect(steps[2]).toBeGreaterThan(2 * steps[1]!)
        expect(steps[2]).toBeLessThan(5 / 3 / 2 + 5 / 15 / 2 + 5 / 255)
      }
    })

    it('goes on with the texts that are selected', () => {
      const all = stream(30, 1, 3)
      const store = kvStaircase(options)(Number.POSITIVE_INFINITY)
      feed(store, all, [7])
      store.select([2, 0])
      const next = stream(1, 9)
      const got = store.extend(next.k, next.v)
      const alone = kvStaircase(options)(Number.POSITIVE_INFINITY)
      const only = (x: Tensor): Tensor => concat([slice(x, [2], [1]), slice(x, [0], [1])], 0)
      feed(alone, { k: only(all.k), v: only(all.v) }, [7])
      const want = alone.extend(next.k, next.v)
      expect(numbers(got.k)).toEqual(numbers(want.k))
      expect(numbers(got.v)).toEqual(numbers(want.v))
    })

    it('under a limit forgets whole groups that no later query sees', () => {
      const { k, v } = stream(60)
      for (const limit of [5, 12, 21]) {
        const store = kvStaircase({ ...options, steps: [{ bits: 32 }] })(limit)
        for (let t = 0; t < 60; t++) {
          const got = store.extend(cut(k, t, 1), cut(v, t, 1))
          const least = Math.min(t + 1, limit + 1)
          expect(got.keys).toBeGreaterThanOrEqual(least)
          expect(got.keys).toBeLessThan(limit + 1 + 4)
          expect(numbers(cut(got.k, got.keys - least, least))).toEqual(numbers(cut(k, t + 1 - least, least)))
          expect(numbers(cut(got.v, got.keys - least, least))).toEqual(numbers(cut(v, t + 1 - least, least)))
        }
      }
    })

    it('leaves nothing behind', () => {
      const all = stream(40)
      const before = memory().numTensors
      const store = kvStaircase(options)(Number.POSITIVE_INFINITY)
      for (let t = 0; t < 40; t++) {
        const pieces = [cut(all.k, t, 1), cut(all.v, t, 1)] as const
        const got = store.extend(...pieces)
        for (const x of new Set([...pieces, got.k, got.v])) x.dispose()
        expect(memory().numTensors - before).toBeLessThanOrEqual(2 + 3 * 4)
      }
      store.select([1])
      store.dispose()
      expect(memory().numTensors).toBe(before)
      expect([store.bytes, store.tokens]).toEqual([0, [0, 0, 0, 0]])
    })
  })

  describe('generate', () => {
    const tuned = () => attach(tinyLlama(rng(3), { maxLength: 64 }), [], rng(0))
    const prompts = [
      [1, 2, 3, 4, 5, 6, 7],
      [8, 9],
    ]
    const ends = { maxTokens: 40, ends: [] }

    it('with 32 bits in every step says the same, bit by bit; with 16 almost', async () => {
      const model = tuned()
      const want = await complete(model, prompts, ends)
      const exact = kvStaircase({ window: 4, group: 4, steps: [{ bits: 32, until: 12 }, { bits: 32 }] })
      expect(await complete(model, prompts, { ...ends, cache: exact })).toEqual(want)
      const half = kvStaircase({ window: 0, group: 4, steps: [{ bits: 16 }], keys: 'token' })
      const found = await complete(model, prompts, { ...ends, cache: half })
      expect(gap(found[0]!.logprobs, want[0]!.logprobs)).toBeLessThan(5e-3)
      expect(found[0]!.logprobs).not.toEqual(want[0]!.logprobs)
    })

    it('a plain int8 cache is a staircase of one step', async () => {
      const model = tuned()
      const int8 = kvStaircase({ window: 0, group: 4, steps: [{ bits: 8 }], keys: 'token' })
      const [want, found] = [
        await complete(model, prompts, ends),
        await complete(model, prompts, { ...ends, cache: int8 }),
      ]
      expect(gap(found[0]!.logprobs.slice(0, 5), want[0]!.logprobs.slice(0, 5))).toBeLessThan(0.05)
      const cache = kvCache(model.network.config, int8)
      model.run(model.params, { ids: tensor([[1, 2, 3, 4, 5, 6, 7, 8]], [1, 8], 'int32') }, { cache })
      // 2 layers of 8 tokens, 2 heads of 4: codes, and a scale for each 4 of them
      expect(cache.bytes).toBe(2 * 2 * (8 * 8 + 8 * 2 * 4))
      expect(cache.length).toBe(8)
      cache.dispose()
    })
  })
})

describe('refuses', () => {
  const made = (options: KvStaircaseOptions) => () => kvStaircase(options)
  it.each<[KvStaircaseOptions, string]>([
    [{ window: 100 }, 'window must be a multiple of the group of 32 tokens, found 100'],
    [{ group: 0 }, 'group must be a whole number'],
    [{ steps: [] }, 'steps must name at least one format'],
    [{ steps: [{ bits: 3 as 2 }] }, 'step 0: bits must be 2, 4, 8, 16 or 32, found 3'],
    [{ steps: [{ bits: 4, until: 256 }, { bits: 8 }] }, 'step 1: 8 bits after 4; older tokens cannot have more'],
    [{ steps: [{ bits: 8, until: 64 }, { bits: 4 }] }, 'step 0: until must be a multiple of 32 above 128, found 64'],
    [{ steps: [{ bits: 8, until: 200 }, { bits: 4 }] }, 'until must be a multiple of 32 above 128, found 200'],
    [{ steps: [{ bits: 8 }, { bits: 4 }] }, 'until must be a multiple of 32 above 128, found undefined'],
    [{ steps: [{ bits: 8, until: 256 }] }, 'the last step has no "until"'],
    [{ keys: 'row' as 'token' }, "keys must be 'channel' or 'token'"],
  ])('%j', (options, message) => {
    expect(made(options)).toThrow(`kvStaircase: `)
    expect(made(options)).toThrow(message)
  })
})
