import type { Adapter, Scalar, Tensor, Tensor1D } from '@weftjs/spec'
import { add, backprop, cpu, expandDims, memory, mul, ones, rng, sum, tensor, tensor1d, tidy } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { attach, initNetwork, type KvCache, kvCache, nextToken, sitesOf, type Tuned } from '../src/index.ts'

await cpu()
const source = {
  ...{ model_type: 'llama', vocab_size: 11, hidden_size: 8, num_hidden_layers: 3, num_attention_heads: 2 },
  ...{ intermediate_size: 12, max_position_embeddings: 16, tie_word_embeddings: false },
}
const network = initNetwork(source, rng(3))
const ids = tensor([1, 2, 3, 4], [1, 4], 'int32')
const batch = { shape: [1, 4] as const, targets: Int32Array.of(2, 3, 4, -100) }
const near = (a: Tensor, b: Tensor): void => {
  const [x, y] = [a.dataSync(), b.dataSync()]
  expect(x.length).toBe(y.length)
  x.forEach((v, i) => {
    expect(v).toBeCloseTo(y[i]!, 5)
  })
}

describe('vectors of a site', () => {
  const bend: Adapter<{ g: Tensor1D; b: Tensor1D }> = {
    name: 'bend',
    init: ({ out }, { rng }) => ({
      state: { g: add(ones([out]), rng.normal([out], 0.1)) as Tensor1D, b: rng.normal([out]) as Tensor1D },
    }),
    vector: (which, v, { g, b }) => (which === 'scale' ? mul(v!, g) : v ? add(v, b) : b),
  }

  it('change in a pass as they do when folded: biases that were not there, scales and biases of norms', () => {
    const tuned = attach(network, [{ adapter: bend, at: ['**.q', '**.norm2', 'norm', 'head'] }], rng(0))
    const { logits } = tuned.forward(tuned.params, { ids })
    const folded = tuned.fold(tuned.params)
    expect(
      Object.keys(folded.vectors)
        .filter((n) => n.endsWith('.bias'))
        .sort(),
    ).toEqual(
      ['head', 'norm', ...[0, 1, 2].flatMap((i) => [`blocks.${i}.attn.q`, `blocks.${i}.norm2`])]
        .map((n) => `${n}.bias`)
        .sort(),
    )
    near(attach(folded, [], rng(0)).forward({}, { ids }).logits, logits)
    expect(folded.weights['blocks.0.attn.q']).toBe(network.weights['blocks.0.attn.q'])
    expect(network.vectors['norm.bias']).toBeUndefined()
    const { grads } = backprop((p) => nextToken(tuned.run(p, { ids }), batch), tuned.params)
    for (const [name, g] of Object.entries(grads)) {
      // a tensor that nothing reads: a linear without a scale
      const read = !(name.endsWith('.g') && /\.q\.|head/.test(name))
      expect(
        g.dataSync().some((v) => v !== 0),
        name,
      ).toBe(read)
    }
  })
})

describe('what blocks leave for those after them', () => {
  /** what went into all blocks, summed and added before the last norm; each block adds Σs/4 to the loss */
  const side = (weight: number): Adapter<{ s: Tensor1D }> => ({
    name: 'side',
    init: ({ out }) => ({ state: { s: tensor1d(Array<number>(out).fill(0.5)) } }),
    around: (next, x, { s }, { site, scratch, penalty }) => {
      const before = scratch.get('sum')
      if (site.kind === 'norm') return next(add(x, mul(before!, s)))
      scratch.set('sum', before ? add(before, x) : add(x, 0))
      penalty(mul(sum(s), weight) as Scalar)
      return next(x)
    },
  })

  it('outlives them, and so do the terms that they add to the loss; nothing stays behind', () => {
    const [tuned, bare] = [0.25, 0].map((w) =>
      attach(network, [{ adapter: side(w), at: ['blocks.*', 'norm'] }], rng(0)),
    ) as [Tuned, Tuned]
    const before = memory().numTensors
    const [a, b] = [tuned, bare].map((t) => tidy(() => nextToken(t.run(t.params, { ids }), batch))) as [Tensor, Tensor]
    expect(memory().numTensors - before).toBe(2)
    // a quarter of 8 halves from each of three blocks
    expect(a.dataSync()[0]! - b.dataSync()[0]!).toBeCloseTo(3, 5)
    tidy(() => {
      const { grads } = backprop((p) => nextToken(tuned.run(p, { ids }), batch), tuned.params)
      for (const g of Object.values(grads)) expect(g.dataSync().some((v) => v !== 0)).toBe(true)
    })
    expect(memory().numTensors - before).toBe(2)
  })
})

describe('an attention of an adapter', () => {
  it('is given the keys of its earlier tokens, the texts that go on, and how many tokens there were', () => {
    const seen: [past: number | undefined, keys: number[]][] = []
    const own: Adapter<Record<never, never>> = {
      name: 'own',
      init: () => ({ state: {} }),
      around: (next, x, _, { extend, past }) => {
        const fresh = expandDims(x, 1) // [B, 1, T, D]
        const { k } = extend?.('side', fresh, fresh) ?? { k: fresh }
        seen.push([past, [...k.dataSync()].filter((_, i) => i % 8 === 0)])
        return next(x)
      },
    }
    const tuned = attach(network, [{ adapter: own, at: 'blocks.2' }], rng(0))
    const run = (rows: number[][], cache?: KvCache): void =>
      tidy(() => void tuned.run({}, { ids: tensor(rows, undefined, 'int32') }, cache ? { cache } : {}))
    run([
      [1, 2, 3],
      [4, 5, 6],
    ])
    const whole = seen[0]![1]
    expect(seen[0]![0]).toBeUndefined()
    const cache = kvCache(network.config)
    const before = memory().numTensors
    run(
      [
        [1, 2],
        [4, 5],
      ],
      cache,
    )
    cache.select([1])
    run([[6]], cache)
    cache.dispose()
    expect(memory().numTensors).toBe(before)
    expect(seen.map(([past]) => past)).toEqual([undefined, 0, 2])
    seen[2]![1].forEach((v, i) => {
      expect(v).toBeCloseTo(whole[3 + i]!, 5)
    })
  })
})

it('sites say how blocks are built', () => {
  const sites = sitesOf(network)
  expect(sites.find((s) => s.name === 'blocks.1.attn.core')!.block).toMatchObject({
    ...{ heads: 2, kvHeads: 2, headWidth: 4, hidden: 12, causal: true, scale: 0.5, theta: 10000 },
  })
  expect(sites.filter((s) => s.block && s.layer < 0)).toEqual([])
})
