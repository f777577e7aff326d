import { attach } from '@weftjs/model'
import { add, cpu, mapParams, rng, tensor } from '@weftjs/tensor'
import { matrix, svd } from '@weftjs/tensor/linalg'
import { describe, expect, it } from 'vitest'
import { hira } from '../src/hira.ts'
import { distance } from './fixture.ts'
import { apart, network, one, plus, times } from './one.ts'

await cpu()

describe('hira', () => {
  it('adds W⊙(B·A), of a rank above its own', () => {
    const { state, w, after } = one(hira({ rank: 2 }))
    const ba = times(state('b'), state('a'))
    const delta = w.map((row, i) => row.map((v, j) => v * ba[i]![j]!))
    expect(apart(after, plus(w, delta))).toBeLessThan(1e-5)
    const { s } = svd(matrix(24, 16, delta.flat()))
    expect([...s].filter((v) => v > 1e-4 * s[0]!).length).toBe(16)
  })

  it('gives the same logits adapted and folded, also at the embedding', async () => {
    const tuned = attach(network, [{ adapter: hira({ rank: 3 }), at: ['embed', '**.q'] }], rng(1))
    const params = mapParams(tuned.params, (p, n) => add(p, rng(2).fork(n).normal(p.shape, 0.3)))
    const ids = tensor([1, 2, 3, 4], [1, 4], 'int32')
    const folded = attach(tuned.fold(params), [], rng(0))
    const [x, y] = [tuned.forward(params, { ids }).logits, folded.forward({}, { ids }).logits]
    expect(distance(await x.data(), await y.data())).toBeLessThan(1e-4)
  })

  it('drops inputs of the update, not of the base', () => {
    const { tuned, params } = one(hira({ rank: 2, dropout: 0.5 }), { change: (p) => p })
    const ids = tensor([1, 2, 3, 4], [1, 4], 'int32')
    const plain = attach(network, [], rng(0)).forward({}, { ids }).logits.dataSync()
    expect(distance(tuned.forward(params, { ids }, { training: true, rng: rng(5) }).logits.dataSync(), plain)).toBe(0)
    const moved = mapParams(params, (p, n) => add(p, rng(2).fork(n).normal(p.shape, 0.5)))
    const noisy = (seed: number) => tuned.forward(moved, { ids }, { training: true, rng: rng(seed) }).logits.dataSync()
    expect(distance(noisy(1), noisy(2))).toBeGreaterThan(1e-3)
  })

  it('refuses a rank above the matrix, and other starts', () => {
    expect(() => attach(network, [{ adapter: hira(), at: '**.k' }], rng(0))).toThrow(
      'blocks.0.attn.k: rank 32 exceeds min(8, 16); lower rank or narrow "at"',
    )
    expect(() => hira({ init: 'zero' as never })).toThrow("hira: init must be 'kaiming' or 'gaussian', found 'zero'")
  })
})
