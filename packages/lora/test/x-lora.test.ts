import { attach, score } from '@weftjs/model'
import { add, mapParams, rng, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { xLora } from '../src/x-lora.ts'
import { distance } from './fixture.ts'
import { network } from './one.ts'

describe('x-lora', () => {
  const at = ['model', 'norm', 'head', 'blocks.*.attn.{q,v}']
  const ids = tensor([1, 2, 3, 4], [1, 4], 'int32')

  it('begins as the model, and trains the gate alone unless told otherwise', async () => {
    const tuned = attach(network, [{ adapter: xLora({ rank: 2, depth: 2, width: 5 }), at }], rng(1))
    expect(Object.keys(tuned.params)).toEqual(['w0', 'b0', 'w1', 'b1'].map((k) => `model.x-lora.${k}`))
    const plain = attach(network, [], rng(0)).forward({}, { ids }).logits
    const [a, b] = [await tuned.forward(tuned.params, { ids }).logits.data(), await plain.data()]
    expect(distance(a, b)).toBeLessThan(1e-5)
  })

  it.each([{}, { layerwise: true, first: 0.3, top: 1 }])(
    'means the same while a text is generated, %j',
    async (options) => {
      const tuned = attach(network, [{ adapter: xLora({ rank: 2, trainExperts: true, ...options }), at }], rng(1))
      const params = mapParams(tuned.params, (p, n) => add(p, rng(2).fork(n).normal(p.shape, 0.5)))
      const whole = await tuned.forward(params, { ids }).logits.data()
      const parts = await score(tuned, params, [1, 2, 3, 4], { chunk: 1, logits: true })
      expect(distance(parts.logits!.data, whole)).toBeLessThan(1e-4)
      const plain = await attach(network, [], rng(0)).forward({}, { ids }).logits.data()
      expect(distance(plain, whole)).toBeGreaterThan(0.1)
    },
  )

  it('says where it must stand, and what does not fit', async () => {
    expect(() => attach(network, [{ adapter: xLora(), at: 'blocks.*.attn.q' }], rng(1))).toThrow(
      'blocks.0.attn.q: x-lora reads the hidden states of a first pass; put it on "model", "norm" and "head"',
    )
    expect(() => xLora({ experts: 2, top: 3 })).toThrow('x-lora: top 3 exceeds the 2 experts')
    expect(() => xLora({ experts: 3, alpha: [1, 2] })).toThrow('3 experts have 2 values of alpha')
  })
})
