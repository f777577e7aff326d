import type { Adapter, Tensor } from '@weftjs/spec'
import { add, backprop, cpu, mul, rng, scalar, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { attach, initNetwork, nextToken } from '../src/index.ts'

await cpu()
const source = {
  ...{ model_type: 'llama', vocab_size: 11, hidden_size: 8, num_hidden_layers: 2, num_attention_heads: 2 },
  ...{ intermediate_size: 12, max_position_embeddings: 16, tie_word_embeddings: true },
}
const network = initNetwork(source, rng(3))
const ids = tensor([1, 2, 3, 4], [1, 4], 'int32')
const values = (t: Tensor): number[] => [...t.dataSync()]

/** next(x) + t, and a record of where it ran */
const shift = (seen: string[]): Adapter<{ t: Tensor }> => ({
  name: 'shift',
  init: () => ({ state: { t: scalar(0.5) } }),
  around: (next, x, { t }, { site }) => {
    seen.push(site.name)
    return add(next(x), t)
  },
})

describe('around', () => {
  it.each([
    'embed',
    'blocks.0',
    'blocks.1.attn',
    'blocks.0.mlp',
    'blocks.1.attn.q',
    'blocks.0.norm1',
    'blocks.1.norm2',
    'norm',
    'head',
    'model',
  ])('acts at %s, in the loss as in the logits', (at) => {
    const seen: string[] = []
    const plain = attach(network, [], rng(0))
    const tuned = attach(network, [{ adapter: shift(seen), at }], rng(0))
    const logits = values(tuned.forward(tuned.params, { ids }).logits)
    expect(seen).toEqual([at])
    expect(logits).not.toEqual(values(plain.forward({}, { ids }).logits))
    const batch = { shape: [1, 4] as const, targets: Int32Array.of(2, 3, 4, -100) }
    const { loss, grads } = backprop((p) => nextToken(tuned.run(p, { ids }), batch), tuned.params)
    // mean of −log softmax at the targets, from the logits
    const row = (t: number): number[] => logits.slice(11 * t, 11 * t + 11)
    const expected = [2, 3, 4].map((y, t) => Math.log(row(t).reduce((s, z) => s + Math.exp(z), 0)) - row(t)[y]!)
    expect(values(loss)[0]).toBeCloseTo(expected.reduce((a, b) => a + b) / 3, 5)
    expect(Object.keys(grads)).toEqual([`${at}.shift.t`])
  })

  it('the model as a whole can be scaled: logits are what comes out', () => {
    const double: Adapter<Record<never, never>> = {
      name: 'double',
      init: () => ({ state: {} }),
      around: (next, x) => mul(next(x), 2),
    }
    const plain = values(attach(network, [], rng(0)).forward({}, { ids }).logits)
    const tuned = attach(network, [{ adapter: double, at: 'model' }], rng(0))
    expect(values(tuned.forward({}, { ids }).logits)).toEqual(plain.map((z) => 2 * z))
  })

  it('a norm that is one with the residual before it is the norm it is alone', () => {
    const seen: string[] = []
    const watch: Adapter<Record<never, never>> = {
      name: 'watch',
      init: () => ({ state: {} }),
      around: (next, x, _, { site }) => {
        seen.push(site.name)
        return next(x)
      },
    }
    const batch = { shape: [1, 4] as const, targets: Int32Array.of(2, 3, 4, -100) }
    const [one, apart] = [[], [{ adapter: watch, at: '**.norm2' }]].map((attachments) => {
      const tuned = attach(network, attachments, rng(0), { train: '**' })
      const { loss, grads } = backprop((p) => nextToken(tuned.run(p, { ids }), batch), tuned.params)
      return [loss, ...Object.keys(tuned.params).map((n) => grads[n]!)].map(values)
    }) as [number[][], number[][]]
    expect(seen).toEqual(['blocks.0.norm2', 'blocks.1.norm2'])
    one.forEach((list, i) => {
      list.forEach((v, j) => {
        expect(v).toBeCloseTo(apart[i]![j]!, 6)
      })
    })
  })
})
