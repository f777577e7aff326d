import { attach, nextToken } from '@weftjs/model'
import type { Adapter } from '@weftjs/spec'
import { backprop, rng, stopGradient } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { type IaaOptions, iaa } from '../src/iaa.ts'
import { parallel } from '../src/parallel.ts'
import { series } from '../src/series.ts'
import { countOwn, expectSameText, gap, ids, logits, moved, network, tune, values } from './beside.ts'

const inner = 'blocks.*.{attn,mlp}'
const at = ['blocks.*', inner]
const batch = { shape: [2, 5] as const, targets: Int32Array.from([2, 3, 4, 5, -100, 7, 8, 9, 10, -100]) }
const renamed = (params: object, name: string): any =>
  Object.fromEntries(Object.entries(params).map(([n, t]) => [n.replace('iaa', name), t]))

describe('iaa', () => {
  it('is the model itself at first, in either form', async () => {
    const plain = logits(attach(network, [], rng(0)))
    expect(await gap(logits(tune(iaa(), at)), plain)).toBe(0)
    expect(await gap(logits(tune(iaa({ carried: true }), [...at, 'norm'])), plain)).toBe(0)
  })

  it('without the modules beside the blocks is adapters in series, bit for bit; without those inside parallel ones', async () => {
    const [inside, outside] = [tune(iaa({ inside: 5, aside: 0 }), at), tune(iaa({ inside: 0, aside: 5 }), at)]
    const options = { width: 5, bias: true, activation: 'relu' } as const
    const [one, other] = [tune(series(options), inner), tune(parallel(options), 'blocks.*')]
    const [p, q] = [moved(inside), moved(outside)]
    expect(await gap(logits(inside, p), logits(one, renamed(p, 'series')))).toBe(0)
    expect(await gap(logits(outside, q), logits(other, renamed(q, 'parallel')))).toBe(0)
  })

  it('joins its modules: where frozen layers let no gradient through, those before still get one', async () => {
    const cut: Adapter<Record<never, never>> = {
      name: 'cut',
      init: () => ({ state: {} }),
      around: (next, x) => next(stopGradient(x)),
    }
    const grads = async (options: IaaOptions): Promise<number[]> => {
      const tuned = attach(
        network,
        [
          { adapter: cut, at: 'blocks.1' },
          { adapter: iaa(options), at },
        ],
        rng(2),
      )
      const { grads } = backprop((p) => nextToken(tuned.run(p, { ids: ids() }), batch), moved(tuned))
      return values(grads['blocks.0.mlp.iaa.up']!)
    }
    expect((await grads({ inside: 4, aside: 4 })).some((g) => g !== 0)).toBe(true)
    // scattered ones are cut off
    expect((await grads({ inside: 4, aside: 0 })).every((g) => g === 0)).toBe(true)
  })

  it('carries a state beside the blocks, which is added once before the last norm', async () => {
    const tuned = tune(iaa({ inside: 0, aside: 3, carried: true }), [...at, 'norm'])
    const params = moved(tuned)
    const plain = logits(attach(network, [], rng(0)))
    expect(await gap(logits(tuned, params), plain)).toBeGreaterThan(1e-3)
    const { grads } = backprop((p) => nextToken(tuned.run(p, { ids: ids() }), batch), params)
    for (const g of Object.values(grads)) expect((await values(g)).some((v) => v !== 0)).toBe(true)
    expect(() => logits(tuned, params, { recompute: true })).toThrow('turn recompute off')
  })

  it('generates the same text with and without a cache, in either form', async () => {
    const joined = tune(iaa({ inside: 4, aside: 4 }), at)
    await expectSameText(joined, moved(joined, 0.3))
    const carried = tune(iaa({ inside: 4, aside: 4, carried: true }), [...at, 'norm'])
    await expectSameText(carried, moved(carried, 0.3))
  })

  it('trains 2·(2·w·d + w + d) + 2·a·d + a + d numbers a layer', () => {
    expect(countOwn(tune(iaa({ inside: 5, aside: 3 }), at))).toBe(2 * (2 * (2 * 5 * 16 + 5 + 16) + 2 * 3 * 16 + 3 + 16))
  })

  it.each<[IaaOptions, string | string[], string]>([
    [{ inside: 0, aside: 0 }, at, 'iaa: inside and aside are both 0'],
    [
      { carried: true },
      at,
      "blocks.0: the state beside the blocks is added before the last norm; put iaa at 'norm', too",
    ],
    [{}, 'norm', "norm (norm): modules stand at 'blocks.*' and 'blocks.*.{attn,mlp}'; narrow"],
    [{ aside: 1.5 }, at, 'iaa: aside must be a whole number'],
    [{ activation: 'swish' as never }, at, "iaa: there is no activation 'swish'"],
  ])('refuses %o at %s', (options, where, message) => {
    expect(() => tune(iaa(options), where)).toThrow(message)
  })
})
