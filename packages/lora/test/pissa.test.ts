import { attach } from '@weftjs/model'
import { cpu, rng, sub, type Tensor, tensor } from '@weftjs/tensor'
import { svd, toMatrix } from '@weftjs/tensor/linalg'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { olora } from '../src/olora.ts'
import { pissa } from '../src/pissa.ts'
import { distance } from './fixture.ts'

await cpu()
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const name = 'blocks.0.mlp.up'
const nuclear = (t: Tensor): number => svd(toMatrix(t as never)).s.reduce((a, b) => a + b, 0)
const frobenius = (t: Tensor): number => Math.hypot(...t.dataSync())
const coarse = toyCodec()

describe('pissa', () => {
  it('begins as the network, its base being W without the top factors', async () => {
    const net = tinyLlama(rng(0))
    const want = await attach(net, [], rng(0)).forward({}, { ids }).logits.data()
    for (const options of [{ rank: 4 }, { rank: 4, alpha: 2 }, { rank: 3, niter: 6 }, { rank: 2, rslora: true }]) {
      const tuned = attach(net, [{ adapter: pissa(options), at: '**.{q,k,v,o,gate,up,down}' }], rng(1))
      expect(distance(await tuned.forward(tuned.params, { ids }).logits.data(), want)).toBeLessThan(2e-5)
    }
    const { bound } = attach(net, [{ adapter: pissa({ rank: 5 }), at: name }], rng(1))
    const [whole, rest] = [net.weights[name]!, bound[0]!.base!].map((w) => svd(toMatrix(w.dense())).s)
    expect(distance(rest!.slice(0, 11), whole!.slice(5))).toBeLessThan(1e-5)
    expect(Math.max(...rest!.slice(11))).toBeLessThan(1e-5)
  })

  it('leaves nothing at the full rank', () => {
    const { bound } = attach(tinyLlama(rng(0)), [{ adapter: pissa({ rank: 16 }), at: name }], rng(1))
    expect(Math.max(...bound[0]!.base!.dense().dataSync().map(Math.abs))).toBeLessThan(1e-5)
  })

  it('packs with a smaller error than packing alone, smaller still by rounds (QPiSSA)', () => {
    const net = tinyLlama(rng(0))
    const w = net.weights[name]!.dense()
    const loose = { ...net, weights: { ...net.weights, [name]: { ...packed(coarse, w), dense: () => w } } }
    const gap = (rounds: number): { nuclear: number; frobenius: number } => {
      const tuned = attach(loose, [{ adapter: pissa({ rank: 4, rounds }), at: name }], rng(1))
      const b = tuned.bound[0]!
      const now = b.adapter.weight!(
        b.base!,
        { a: tuned.params[`${b.prefix}.a`]!, b: tuned.params[`${b.prefix}.b`]! },
        {
          ...{
            site: b.site,
            training: false,
            inputs: {},
            inner: [],
            shared: {},
            scratch: new Map(),
            penalty: () => {},
          },
        },
      )
      const lost = sub(w, now.dense())
      return { nuclear: nuclear(lost), frobenius: frobenius(lost) }
    }
    const alone = sub(w, packed(coarse, w).dense())
    const [one, five] = [gap(1), gap(5)]
    expect(one.nuclear).toBeLessThan(nuclear(alone))
    expect(five.frobenius).toBeLessThan(one.frobenius)
  })

  it('says what is wrong', () => {
    const at = (options: object) => () =>
      attach(tinyLlama(rng(0)), [{ adapter: pissa(options), at: 'blocks.0.attn.v' }], rng(0))
    expect(at({ rank: 9 })).toThrow('blocks.0.attn.v: rank 9 exceeds min(8, 16); lower rank or narrow "at"')
    expect(at({ alpha: 0 })).toThrow('blocks.0.attn.v: alpha must be a number above 0, found 0')
    expect(at({ rounds: 0 })).toThrow('pissa: rounds must be a whole number of at least 1, found 0')
    expect(at({ niter: -1 })).toThrow('pissa: niter must be a whole number of at least 0, found -1')
  })
})

describe('olora', () => {
  it('begins as the network, with orthonormal columns of B', async () => {
    const net = tinyLlama(rng(0))
    const want = await attach(net, [], rng(0)).forward({}, { ids }).logits.data()
    const tuned = attach(net, [{ adapter: olora({ rank: 4, alpha: 2 }), at: '**.{q,k,v,o,gate,up,down}' }], rng(1))
    expect(distance(await tuned.forward(tuned.params, { ids }).logits.data(), want)).toBeLessThan(2e-5)
    for (const { prefix } of tuned.bound) {
      const b = toMatrix(tuned.params[`${prefix}.b`] as never)
      for (let i = 0; i < 4; i++)
        for (let j = 0; j < 4; j++) {
          let dot = 0
          for (let k = 0; k < b.rows; k++) dot += b.data[k * 4 + i]! * b.data[k * 4 + j]!
          expect(dot).toBeCloseTo(i === j ? 1 : 0, 5)
        }
    }
  })
})
