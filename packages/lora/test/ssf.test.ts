import { attach, nextToken } from '@weftjs/model'
import { backprop, cpu, rng, tensor, tensor1d, tensor2d } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { type SsfOptions, ssf } from '../src/ssf.ts'
import { biased, context, expectNear, gap, ids, logits, moved, network, tune, values } from './beside.ts'
import { model } from './fixture.ts'

await cpu()
const everywhere = ['**.{attn,mlp}.{q,k,v,qkv,o,gate,up,down}', '**.norm*', 'norm', 'embed.norm', 'head']

describe('ssf', () => {
  it('is γ ⊙ (Wx + b) + β, by numbers worked out by hand', async () => {
    const state = { scale: tensor1d([2, -1]), shift: tensor1d([5, 7]) }
    const w = ssf().weight!(
      dense(
        tensor2d([
          [1, 2],
          [3, 4],
        ]),
      ),
      state as never,
      context(),
    )
    expect(await values(w.apply(tensor([1, 1], [1, 2])))).toEqual([6, -7])
    expect(await values(ssf().vector!('bias', tensor1d([10, 20]), state as never, context())!)).toEqual([25, -13])
    expect(await values(ssf().vector!('bias', undefined, state as never, context())!)).toEqual([5, 7])
    expect(await values(ssf().vector!('scale', tensor1d([3, 3]), state as never, context())!)).toEqual([6, -3])
  })

  it('folds into matrices, biases and norms: of layers and by squares, with offsets, before and after', async () => {
    for (const base of [network, biased, ...(await Promise.all(['gpt2', 'bert', 'gemma2', 'qwen3'].map(model)))]) {
      const tuned = tune(ssf(), everywhere, base)
      const plain = attach(base, [], rng(0))
      expect(await gap(logits(tuned), logits(plain))).toBeLessThan(1e-5)
      const params = moved(tuned, 0.05)
      const there = logits(tuned, params)
      expect(await gap(there, logits(plain))).toBeGreaterThan(0.01)
      expect(await gap(logits(attach(tuned.fold(params), [], rng(0)), {}), there)).toBeLessThan(1e-4)
    }
  })

  it('a norm with an offset is scaled as it acts: γ·(w + 1)', async () => {
    const base = await model('gemma2')
    const name = Object.keys(base.vectors).find((n) => n.endsWith('norm1'))!
    const tuned = tune(ssf({ shift: false }), name, base)
    const params = { [`${name}.ssf.scale`]: tensor1d(Array<number>(base.config.width).fill(2)) }
    const was = await values(base.vectors[name]!)
    expectNear(
      await values(tuned.fold(params).vectors[name]!),
      was.map((v) => 2 * (v + 1) - 1),
    )
  })

  it('with γ held at 1 is tuning of biases: the gradient of β is that of the bias', async () => {
    const base = await model('gpt2')
    const at = 'blocks.*.{attn,mlp}.{qkv,o,up,down}'
    const batch = { shape: [2, 5] as const, targets: Int32Array.from([2, 3, 4, 5, -100, 7, 8, 9, 10, -100]) }
    const grads = (tuned: ReturnType<typeof tune>) =>
      backprop((p) => nextToken(tuned.run(p, { ids: ids() }), batch), tuned.params).grads
    const one = grads(tune(ssf({ scale: false }), at, base))
    const other = grads(attach(base, [], rng(0), { train: `${at}.bias` }))
    expect(Object.keys(one)).toHaveLength(Object.keys(other).length)
    for (const [name, g] of Object.entries(other)) {
      const own = one[name.replace(/bias$/, 'ssf.shift')]!
      expect(await gap(own, g)).toBeLessThan(1e-6)
    }
  })

  it('the paper’s start is near the model, not at it', async () => {
    const plain = logits(attach(network, [], rng(0)))
    const start = logits(tune(ssf({ init: 'normal' }), everywhere))
    expect(await gap(start, plain)).toBeGreaterThan(1e-3)
    expect(await gap(start, plain)).toBeLessThan(1)
  })

  it('acts on a head that is the embedding, and leaves the embedding', async () => {
    const base = await model('smollm2')
    expect(base.config.tied).toBe(true)
    const tuned = tune(ssf(), 'head', base)
    const params = moved(tuned)
    const folded = tuned.fold(params)
    expect(folded.weights['embed']).toBe(base.weights['embed'])
    expect(await gap(logits(attach(folded, [], rng(0)), {}), logits(tuned, params))).toBeLessThan(1e-4)
  })

  it('differs from row to row where rows have adapters of their own', async () => {
    const tuned = tune(ssf(), everywhere)
    const params = moved(tuned)
    const [on, off, both] = [
      logits(tuned, params),
      logits(tuned, params, { adapters: [] }),
      logits(tuned, params, { rows: [['ssf'], []] }),
    ]
    const [a, b, rows] = [await values(on), await values(off), await values(both)]
    expectNear(rows, [...a.slice(0, 120), ...b.slice(120)])
  })

  it.each<[SsfOptions, string, string]>([
    [{}, 'blocks.0.mlp', 'blocks.0.mlp (mlp): features are scaled after a matrix or a norm; narrow "at" to these'],
    [{}, 'embed', 'embed: rows of [24,16] are looked up here, not channels; adapt the norm after it'],
    [{ scale: false, shift: false }, 'norm', 'ssf: neither scale nor shift trains'],
    [{ init: 'ones' as never }, 'norm', "ssf: init is 'identity' or 'normal', found 'ones'"],
  ])('refuses %o at %s', (options, at, message) => {
    expect(() => tune(ssf(options), at)).toThrow(message)
  })
})
