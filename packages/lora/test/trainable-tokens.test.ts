import { attach } from '@weftjs/model'
import { backprop, mapParams, mul, rng, sum, tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { trainableTokens } from '../src/trainable-tokens.ts'
import { distance } from './fixture.ts'
import { network, rowsOf } from './one.ts'

const ids = { ids: tensor([1, 5, 3, 9], [1, 4], 'int32') }
const tokens = [9, 5]

describe('trainable-tokens', () => {
  it('puts its rows in the place of the chosen tokens, and leaves the others', () => {
    const tuned = attach(network, [{ adapter: trainableTokens({ tokens }), at: 'embed' }], rng(1))
    const name = 'embed.trainable-tokens.rows'
    const params = mapParams(tuned.params, (p) => mul(p, -2))
    const [before, after] = [network, tuned.fold(params)].map((n) => rowsOf(n.weights['embed']!.dense()))
    expect(params[name]!.shape).toEqual([2, 16])
    for (const [i, row] of after!.entries())
      expect(row).toEqual(tokens.includes(i) ? before![i]!.map((v) => -2 * v) : before![i])
    expect(tuned.fold(params).weights['head']!.dense()).toBe(network.weights['head']!.dense())
  })

  it('a head that shares the matrix has the same rows; one tensor trains, and hears of both', async () => {
    const tied = tinyLlama(rng(3), { tied: true })
    const tuned = attach(tied, [{ adapter: trainableTokens({ tokens }), at: ['embed', 'head'] }], rng(1))
    expect(Object.keys(tuned.params)).toEqual(['trainable-tokens.shared.rows'])
    const params = mapParams(tuned.params, (p) => mul(p, 0.5))
    // the same network with the rows changed by hand
    const E = rowsOf(tied.weights['embed']!.dense()).map((row, i) => (tokens.includes(i) ? row.map((v) => v / 2) : row))
    const embed = tied.weights['embed']!.like(tensor(E as number[][]) as never)
    const changed = attach({ ...tied, weights: { ...tied.weights, embed } }, [], rng(0))
    const [a, b] = [tuned.forward(params, ids), changed.forward({}, ids)]
    expect(distance(await a.logits.data(), await b.logits.data())).toBeLessThan(1e-5)
    // token 9 is not read but by the head
    const only = { ids: tensor([1, 2, 3], [1, 3], 'int32') }
    const { grads } = backprop((p) => sum(mul(tuned.forward(p, only).logits, 0.1)) as never, params)
    expect(Math.max(...grads['trainable-tokens.shared.rows']!.dataSync().map(Math.abs))).toBeGreaterThan(0)
  })

  it('refuses tokens that are not there, are named twice, and places without rows', () => {
    const at =
      (options: object, where = 'embed') =>
      () =>
        attach(network, [{ adapter: trainableTokens(options), at: where }], rng(1))
    expect(at({ tokens: [24] })).toThrow('embed: has 24 tokens, and token 24 is to train')
    expect(at({ tokens: [1, 1] })).toThrow('tokens must be different whole numbers')
    expect(at({ tokens: [1] }, 'blocks.0.mlp.up')).toThrow('blocks.0.mlp.up (linear): has no rows of tokens')
  })
})
