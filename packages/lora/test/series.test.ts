import { attach } from '@weftjs/model'
import { add, rng, tensor, tensor2d } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { type SeriesOptions, series } from '../src/series.ts'
import { biased, context, expectNear, gap, logits, moved, network, tune, values } from './beside.ts'

describe('series', () => {
  it('is the model itself at first, and where it is turned off', async () => {
    const plain = logits(attach(network, [], rng(0)))
    for (const place of ['before', 'after'] as const) {
      const tuned = tune(series({ width: 5, place }), '**.{q,v,o,gate,down}')
      expect(await gap(logits(tuned), plain)).toBe(0)
      expect(await gap(logits(tuned, moved(tuned)), plain)).toBeGreaterThan(0.01)
      expect(await gap(logits(tuned, moved(tuned), { adapters: [] }), plain)).toBe(0)
    }
    const normal = tune(series({ width: 5, init: 'normal' }), '**.down')
    expect(await gap(logits(normal), plain)).toBeGreaterThan(1e-5)
  })

  it('is h + s·U·tanh(D·h) after, and W(x + s·U·tanh(D·x)) before, by numbers worked out by hand', async () => {
    const state = { down: tensor2d([[1, 0]]), up: tensor2d([[2], [-1]]) }
    const x = tensor([0.5, 3], [1, 2])
    const next = (x: ReturnType<typeof add>) => add(x, 1)
    const t = (v: number): number => Math.tanh(v)
    const run = (options: SeriesOptions): Promise<number[]> =>
      values(series(options).around!(next, x, state as never, context()))
    const after = [1.5 + 2 * 3 * t(1.5), 4 - 3 * t(1.5)]
    const before = [0.5 + 6 * t(0.5) + 1, 3 - 3 * t(0.5) + 1]
    for (const [place, want] of [
      ['after', after],
      ['before', before],
    ] as const) {
      const y = await run({ place, scale: 3 })
      expectNear(y, want)
    }
  })

  it('without an activation folds, with the bias that passes through it', async () => {
    for (const place of ['before', 'after'] as const) {
      const tuned = tune(series({ width: 3, activation: 'identity', place, scale: 2 }), '**.{q,v,o,up}', biased)
      const params = moved(tuned, 0.2)
      const folded = tuned.fold(params)
      expect(await gap(logits(attach(folded, [], rng(0)), {}), logits(tuned, params))).toBeLessThan(2e-5)
      const [was, is] = [biased.vectors['blocks.0.attn.q.bias']!, folded.vectors['blocks.0.attn.q.bias']!]
      expect((await gap(was, is)) > 0.01).toBe(place === 'after')
    }
    const bent = tune(series({ width: 3 }), '**.q')
    expect(() => bent.fold(bent.params)).toThrow("blocks.0.attn.q: 'series' acts around the module")
  })

  it('a learned scale begins at 1 and trains', async () => {
    const tuned = tune(series({ width: 3, scale: 'learned' }), 'blocks.0.mlp')
    expect(await values(tuned.params['blocks.0.mlp.series.scale']!)).toEqual([1])
  })

  it.each<[SeriesOptions, string]>([
    [{ activation: 'swish' as never }, "series: there is no activation 'swish'; there are identity, relu"],
    [{ init: 'xavier' as never }, "series: init is 'zero' or 'normal', found 'xavier'"],
    [{ place: 'beside' as never }, "series: place is 'before' or 'after' the module, found 'beside'"],
    [{ dropout: 1 }, 'series: dropout must be in [0, 1), found 1'],
    [{ scale: Number.NaN }, 'series: scale must be a number, found NaN'],
    [{ width: 0 }, 'blocks.0.mlp.down: width must be a whole number of at least 1, found 0'],
  ])('refuses %o', (options, message) => {
    expect(() => tune(series(options), 'blocks.0.mlp.down')).toThrow(message)
  })

  it('reads no token ids', () => {
    expect(() => tune(series({ place: 'before', width: 2 }), 'embed')).toThrow('embed: token ids go in here')
    expect(() => tune(series({ width: 2 }), 'embed')).not.toThrow()
  })
})
