import type { Adapter } from '@weftjs/spec'
import { cpu, memory, rng, type Tensor, tensor, tidy, wasm } from '@weftjs/tensor'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { attach, type Inputs, type KvCache, kvCache, type Tuned } from '../src/index.ts'
import { distance, fixture } from './fixture.ts'

await cpu()
const VOCABULARY = 96
const families = ['llama', 'mistral', 'gemma3_text', 'gpt2']
const load = async (name: string): Promise<Tuned> => attach((await fixture(name)).network, [], rng(0))
const tuned = Object.fromEntries(await Promise.all(families.map(async (n) => [n, await load(n)] as const)))

const rowsOf = (rows: readonly (readonly number[])[]): Tensor =>
  tensor(Int32Array.from(rows.flat()), [rows.length, rows[0]!.length], 'int32')
/** logits of one pass, [B·T·V] */
const pass = (model: Tuned, inputs: Inputs, cache?: KvCache): Float32Array => {
  const out = tidy(() => model.forward({}, inputs, cache ? { cache } : {}).logits)
  const values = out.dataSync() as Float32Array
  out.dispose()
  return values
}
const text = fc.array(fc.nat(VOCABULARY - 1), { minLength: 2, maxLength: 18 })

describe.each(families)('%s', (name) => {
  const model = tuned[name]!
  it('gives the same logits in pieces of any size as in one pass', () => {
    fc.assert(
      fc.property(text, fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 6 }), (ids, sizes) => {
        const cache = kvCache(model.network.config)
        const whole = pass(model, { ids: rowsOf([ids]) })
        for (let at = 0, i = 0; at < ids.length; i++) {
          const part = ids.slice(at, at + (sizes[i] ?? 1))
          const got = pass(model, { ids: rowsOf([part]) }, cache)
          expect(distance(got, whole.subarray(at * VOCABULARY, (at + part.length) * VOCABULARY))).toBeLessThan(2e-5)
          at += part.length
          expect(cache.length).toBe(at)
        }
        cache.dispose()
      }),
      { numRuns: 6 },
    )
  })

  it('gives a padded row the logits it has alone', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        const width = Math.max(a.length, b.length)
        const rows = [a, b]
        const pad = rows.map((r) => width - r.length)
        const grid = (n: number, f: (b: number, t: number) => number): Tensor =>
          rowsOf(rows.map((_, b) => Array.from({ length: n }, (_, t) => f(b, t))))
        const cache = kvCache(model.network.config)
        const first = width - 1
        const inputs = (from: number, to: number): Inputs => ({
          ids: grid(to - from, (b, t) => rows[b]![from + t - pad[b]!] ?? 0),
          positions: grid(to - from, (b, t) => Math.max(from + t - pad[b]!, 0)),
          mask: grid(to, (b, t) => (t < pad[b]! ? 0 : 1)),
        })
        pass(model, inputs(0, first), cache)
        const got = pass(model, inputs(first, width), cache)
        for (const [b, ids] of rows.entries()) {
          const alone = pass(model, { ids: rowsOf([ids]) }).subarray(-VOCABULARY)
          expect(distance(got.subarray(b * VOCABULARY, (b + 1) * VOCABULARY), alone)).toBeLessThan(2e-5)
        }
        cache.dispose()
      }),
      { numRuns: 4 },
    )
  })

  it('holds two tensors per layer, however long the text, and frees them', () => {
    const ids = rowsOf([[1, 2, 3]])
    const one = rowsOf([[4]])
    pass(model, { ids }, undefined)
    const { config } = model.network
    const before = memory().numTensors
    const cache = kvCache(config)
    pass(model, { ids }, cache)
    for (let i = 0; i < 8; i++) {
      pass(model, { ids: one }, cache)
      expect(memory().numTensors).toBe(before + 2 * config.layers)
    }
    // 3 tokens make room for 6, the next for 14 or, where tokens further back are let go, for twice a window
    const held = config.sliding.reduce((n, s) => n + (s ? Math.min(14, 2 * (config.window! - 1)) : 14), 0)
    expect(cache.bytes).toBe(held * 2 * 4 * config.kvHeads * config.headWidth)
    cache.dispose()
    expect(memory().numTensors).toBe(before)
    expect([cache.length, cache.bytes]).toEqual([0, 0])
  })
})

it.each(families)(
  '%s on the wasm heap gives in pieces what one pass on the cpu gives, and leaves nothing behind',
  async (name) => {
    const model = tuned[name]!
    const ids = Array.from({ length: 37 }, (_, i) => (i * 29 + 5) % VOCABULARY)
    const whole = pass(model, { ids: rowsOf([ids]) })
    await wasm()
    const cache = kvCache(model.network.config)
    try {
      const before = memory().numTensors
      for (let at = 0; at < ids.length; ) {
        const part = ids.slice(at, at + (at ? 1 + (at % 3) : 9))
        const got = pass(model, { ids: rowsOf([part]) }, cache)
        expect(distance(got, whole.subarray(at * VOCABULARY, (at + part.length) * VOCABULARY))).toBeLessThan(2e-5)
        at += part.length
      }
      cache.dispose()
      expect(memory().numTensors - before).toBeLessThan(30) // ids and tables, nothing per token and layer
    } finally {
      await cpu()
    }
  },
)

it('some of these families have sliding layers that forget', () => {
  expect(families.filter((n) => tuned[n]!.network.config.sliding.some(Boolean))).toEqual(['mistral', 'gemma3_text'])
})

it('goes on with the rows that are selected', () => {
  const model = tuned['llama']!
  const rows = [
    [5, 6, 7],
    [8, 9, 10],
    [11, 12, 13],
  ]
  const cache = kvCache(model.network.config)
  pass(model, { ids: rowsOf(rows) }, cache)
  cache.select([2, 0])
  const got = pass(model, { ids: rowsOf([[1], [2]]) }, cache)
  const whole = [rows[2]!.concat(1), rows[0]!.concat(2)].map((r) =>
    pass(model, { ids: rowsOf([r]) }).subarray(-VOCABULARY),
  )
  expect(distance(got.subarray(0, VOCABULARY), whole[0]!)).toBeLessThan(2e-5)
  expect(distance(got.subarray(VOCABULARY), whole[1]!)).toBeLessThan(2e-5)
  cache.dispose()
})

it('shows an adapter of the core the keys that are there, without the room behind them', async () => {
  const { network } = await fixture('gemma3_text')
  const seen: number[] = []
  const watch: Adapter = {
    name: 'watch',
    init: () => ({ state: {} }),
    attend: (next, x) => {
      expect(x.v.shape).toEqual(x.k.shape)
      if (seen.length < 99) seen.push(x.k.shape[2]!)
      return next(x)
    },
  }
  const at = 'blocks.0.attn.core'
  const [hooked, bare] = [attach(network, [{ adapter: watch, at }], rng(0)), attach(network, [], rng(0))]
  const [one, other] = [kvCache(network.config), kvCache(network.config)]
  for (const ids of [[1, 2, 3], [4], [5], [6, 7], [8], [9], [10]])
    expect(pass(hooked, { ids: rowsOf([ids]) }, one)).toEqual(pass(bare, { ids: rowsOf([ids]) }, other))
  const w = network.config.window!
  expect(network.config.sliding[0]).toBe(true)
  expect(seen[0]).toBe(3)
  expect(Math.max(...seen)).toBeLessThan(2 * w)
  for (const cache of [one, other]) cache.dispose()
})

it('refuses a batch of another size', () => {
  const model = tuned['llama']!
  const cache = kvCache(model.network.config)
  pass(model, { ids: rowsOf([[1, 2]]) }, cache)
  expect(() => pass(model, { ids: rowsOf([[1], [2]]) }, cache)).toThrow(
    'blocks.0.attn: the cache holds 1 texts, this pass has 2; use one cache per batch',
  )
  cache.dispose()
})
