import type { Attention, BlockShape } from '@weftjs/spec'
import { attention, rng, tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { type PrefixOptions, prefix, trainable } from '../src/prefix.ts'
import {
  biased,
  context,
  countOwn,
  expectNear,
  expectSameText,
  gap,
  ids,
  logits,
  moved,
  network,
  site,
  tune,
  values,
} from './beside.ts'
import { model } from './fixture.ts'

const at = 'blocks.*.attn.core'
const block: BlockShape = { heads: 1, kvHeads: 1, headWidth: 2, hidden: 4, causal: true, scale: Math.SQRT1_2 }
const core = site({ name: 'blocks.0.attn.core', kind: 'core', in: 2, out: 2, block })

describe('prefix', () => {
  it('is attention over the prefix and the text before each query, by numbers worked out by hand', async () => {
    // scores of the second query over (prefix, first, second), divided by √2: only the prefix is looked at but for e^0
    const q = tensor([0, 0, Math.SQRT2, 0], [1, 1, 2, 2])
    const [k, v] = [tensor([0, 1, 0, 2], [1, 1, 2, 2]), tensor([1, 0, 0, 1], [1, 1, 2, 2])]
    const state = { keys: tensor([1, 0], [1, 2]), values: tensor([10, 20], [1, 2]) }
    const next = ({ q, k, v, causal }: Attention) => attention(q, k, v, undefined, { causal })
    const e = Math.E
    // query 0 sees the prefix and key 0 alike; query 1 the prefix by e, keys 0 and 1 by 1
    const want = [11 / 2, 10, (10 * e + 1) / (e + 2), (20 * e + 1) / (e + 2)]
    for (const form of ['concat', 'gated'] as const) {
      const adapter = prefix({ length: 1, form })
      const y = adapter.attend!(next, { q, k, v, causal: true }, state as never, context({ site: core }))
      const found = await values(y)
      expectNear(found, want)
    }
  })

  it('put before the keys or behind a gate is the same function: grouped heads, padding, segments, windows', async () => {
    const inputs = {
      ids: ids(),
      mask: tensor([1, 1, 1, 1, 1, 0, 0, 1, 1, 1], [2, 5], 'int32'),
    }
    const packed = { ids: ids(), segments: tensor([1, 1, 1, 2, 2, 1, 2, 2, 2, 0], [2, 5], 'int32') }
    for (const base of [network, biased, await model('bert')]) {
      const [one, other] = (['concat', 'gated'] as const).map((form) =>
        tune(prefix({ length: 3, form }), at, base),
      ) as [any, any]
      const params = moved(one, 0.5)
      for (const given of [inputs, packed])
        expect(await gap(one.forward(params, given).logits, other.forward(params, given).logits)).toBeLessThan(1e-4)
    }
  })

  it('under a sliding window the gate keeps the prefix in sight, and what stands before the keys slides out of it', async () => {
    const r = rng(1)
    const [q, k, v] = [r.normal([1, 1, 4, 2]), r.normal([1, 1, 4, 2]), r.normal([1, 1, 4, 2])]
    const state = { keys: r.normal([1, 2]), values: r.normal([1, 2]) }
    const next = ({ q, k, v, causal }: Attention) => attention(q, k, v, undefined, { causal, window: 2 })
    const last = async (form?: 'concat' | 'gated'): Promise<number[]> => {
      const x = { q, k, v, causal: true }
      const on = { ...core, block: { ...block, window: 2 } }
      const y = form ? prefix({ length: 1, form }).attend!(next, x, state as never, context({ site: on })) : next(x)
      return (await values(y)).slice(-2)
    }
    expectNear(await last('concat'), await last())
    // over the prefix and the two keys that the last query still sees
    const [qs, ks, vs] = (await Promise.all([q, k, v].map(values))) as [number[], number[], number[]]
    const [pk, pv] = (await Promise.all([state.keys, state.values].map(values))) as [number[], number[]]
    const seen = [
      [pk, pv],
      [ks.slice(4, 6), vs.slice(4, 6)],
      [ks.slice(6), vs.slice(6)],
    ] as const
    const weights = seen.map(([key]) => Math.exp((qs[6]! * key[0]! + qs[7]! * key[1]!) / Math.SQRT2))
    const all = weights.reduce((a, b) => a + b)
    const want = [0, 1].map((i) => seen.reduce((sum, [, value], j) => sum + (weights[j]! / all) * value[i]!, 0))
    expectNear(await last('gated'), want)
  })

  it('generates the same text with and without a cache, alone and in a batch', async () => {
    for (const options of [{ length: 3 }, { length: 2, form: 'gated' }, { length: 3, hidden: 4 }] as const) {
      const tuned = tune(prefix(options), at)
      await expectSameText(tuned, moved(tuned, 1))
    }
  })

  it('stands before some rows of a batch and not before others', async () => {
    const tuned = tune(prefix({ length: 3 }), at)
    const params = moved(tuned, 1)
    const [on, off, both] = await Promise.all(
      [{}, { adapters: [] }, { rows: [['prefix'], []] }].map((options) => values(logits(tuned, params, options))),
    )
    expectNear(both!, [...on!.slice(0, 120), ...off!.slice(120)])
  })

  it('a perceptron makes the keys and values of all layers from one embedding', async () => {
    const tuned = tune(prefix({ length: 3, hidden: 5 }), at)
    expect(Object.keys(tuned.params).filter((n) => n.includes('shared'))).toEqual([
      'prefix.shared.tokens',
      'prefix.shared.inner',
      'prefix.shared.innerBias',
    ])
    expect(tuned.params['prefix.shared.tokens']!.shape).toEqual([3, 16])
    expect(countOwn(tuned)).toBe(2 * 16 * (5 + 1))
  })

  it('trains 2·l·d numbers at a site, d the width of its key heads', () => {
    expect(trainable({ ...core, block: { ...block, kvHeads: 4, headWidth: 8 } }, { length: 30 })).toBe(2 * 30 * 32)
    expect(countOwn(tune(prefix({ length: 7 }), at))).toBe(2 * (2 * 7 * 8))
  })

  it.each<[PrefixOptions, string, string]>([
    [{ length: 0 }, at, 'prefix: length must be a whole number of at least 1, found 0'],
    [{ form: 'sum' as never }, at, "prefix: form is 'concat' or 'gated', found 'sum'"],
    [{}, 'blocks.0.attn', "blocks.0.attn: a prefix stands before keys and values; put it at 'blocks.*.attn.core'"],
  ])('refuses %o at %s', (options, where, message) => {
    expect(() => tune(prefix(options), where)).toThrow(message)
  })

  it('has no gate where scores are capped', async () => {
    const capped = await model('gemma2')
    expect(() => tune(prefix({ form: 'gated' }), at, capped)).toThrow('blocks.0.attn.core: scores are capped here')
    expect(() => tune(prefix({ length: 2 }), at, capped)).not.toThrow()
  })

  it('is not folded', () => {
    const tuned = tune(prefix({ length: 2 }), at, tinyLlama(rng(4)))
    expect(() => tuned.fold(tuned.params)).toThrow("'prefix' acts around the module")
    expect(logits(tuned).shape).toEqual([2, 5, 24])
  })
})
