import { attach } from '@weftjs/model'
import { add, cpu, mapParams, ones, rng, tensor } from '@weftjs/tensor'
import { svd, toMatrix } from '@weftjs/tensor/linalg'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { kasa, trainable } from '../src/kasa.ts'
import { lora } from '../src/lora.ts'
import { distance } from './fixture.ts'

await cpu()
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const name = 'blocks.0.mlp.up'
const net = tinyLlama(rng(0))

describe('kasa', () => {
  it('begins without the r smallest components of W', () => {
    const { bound } = attach(net, [{ adapter: kasa({ rank: 5 }), at: name }], rng(1))
    const [whole, kept] = [net.weights[name]!, bound[0]!.base!].map((w) => svd(toMatrix(w.dense())).s)
    expect(distance(kept!.slice(0, 11), whole!.slice(0, 11))).toBeLessThan(1e-5)
    expect(Math.max(...kept!.slice(11))).toBeLessThan(1e-5)
    expect(Math.min(...whole!.slice(11))).toBeGreaterThan(1e-3)
  })

  it('is LoRA on the truncated base where d is 1', async () => {
    const tuned = attach(net, [{ adapter: kasa({ rank: 3, alpha: 6 }), at: '**.{q,up}', name: 'x' }], rng(1))
    const params = mapParams(tuned.params, (p, n) =>
      n.endsWith('.d') ? ones(p.shape) : add(p, rng(2).fork(n).normal(p.shape, 0.2)),
    )
    const weights = { ...net.weights, ...Object.fromEntries(tuned.bound.map((b) => [b.site.name, b.base!])) }
    const same = attach(
      { ...net, weights },
      [{ adapter: lora({ rank: 3, alpha: 6 }), at: '**.{q,up}', name: 'x' }],
      rng(1),
    )
    const [a, b] = [tuned.forward(params, { ids }).logits, same.forward(params, { ids }).logits]
    expect(distance(await a.data(), await b.data())).toBeLessThan(1e-5)
  })

  it('adds its penalty while training, once a site, over the number of sites', async () => {
    const tuned = attach(net, [{ adapter: kasa({ rank: 2, beta: 1, gamma: 0 }), at: '**.{q,up}' }], rng(1))
    const { penalty } = tuned.run(tuned.params, { ids }, { training: true })
    let want = 0
    for (const [n, p] of Object.entries(tuned.params))
      if (n.endsWith('.d')) for (const v of await p.data()) want += (v * v) / 4
    expect((await penalty!.data())[0]).toBeCloseTo(want, 5)
    expect(tuned.run(tuned.params, { ids }).penalty).toBeUndefined()
  })

  it('counts, and says what is wrong', () => {
    expect(trainable({ name: 'w', kind: 'linear', layer: 0, in: 10, out: 6 }, { rank: 2 })).toBe(2 * 17)
    const at = (options: object) => () => attach(net, [{ adapter: kasa(options), at: 'blocks.0.attn.v' }], rng(0))
    expect(at({ rank: 8 })).toThrow('blocks.0.attn.v: rank 8 leaves nothing of min(8, 16) components; lower rank')
    expect(at({ beta: -1 })).toThrow('kasa: beta must be at least 0, found -1')
  })
})
