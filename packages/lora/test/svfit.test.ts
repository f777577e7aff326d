import { attach } from '@weftjs/model'
import {
  add,
  backprop,
  countParams,
  cpu,
  mapParams,
  mul,
  rng,
  sum,
  type Tensor,
  tensor,
  tensor2d,
} from '@weftjs/tensor'
import { matrix, multiply, svd, toMatrix, transpose } from '@weftjs/tensor/linalg'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { dense, packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { svfit, trainable } from '../src/svfit.ts'
import { distance } from './fixture.ts'

await cpu()
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const site = (w: Tensor) => ({
  ...{ name: 'w', kind: 'linear' as const, layer: 0, in: w.shape[1]!, out: w.shape[0]!, weight: dense(w as never) },
})

describe('svfit', () => {
  it('trains as many singular values as hold the energy', () => {
    // squares 9, 4, 1 of 14: the first holds 64 %, two 93 %
    const w = site(tensor2d([3, 0, 0, 0, 0, -2, 0, 0, 0, 0, 1, 0], [3, 4]))
    expect([0.6, 0.65, 0.93, 1].map((energy) => trainable(w, { energy }))).toEqual([1, 2, 3, 3])
    expect(trainable(w, { energy: 0.92 })).toBe(2)
    expect(trainable(w, { rank: 2 })).toBe(2)
  })

  it('begins exactly as the network, on a packed base, too', async () => {
    for (const keep of [dense, (w: never) => packed(toyCodec(), w)]) {
      const net = tinyLlama(rng(0), { keep: keep as never })
      const plain = await attach(net, [], rng(0)).forward({}, { ids }).logits.data()
      const tuned = attach(net, [{ adapter: svfit(), at: '**.{q,v,down}' }], rng(1))
      expect(distance(await tuned.forward(tuned.params, { ids }).logits.data(), plain)).toBe(0)
    }
  })

  it('has uᵢᵀ·G·vᵢ as the gradient of σᵢ, and changes W within the top directions only', async () => {
    const net = tinyLlama(rng(0))
    const name = 'blocks.0.mlp.up'
    const tuned = attach(net, [{ adapter: svfit({ rank: 3 }), at: name }], rng(1))
    const g = rng(2).normal([24, 16])
    const { grads } = backprop((p) => sum(mul(tuned.fold(p).weights[name]!.dense(), g)), tuned.params)
    const { u, s, v } = svd(toMatrix(net.weights[name]!.dense()))
    const full = multiply(transpose(u), multiply(toMatrix(g as never), v))
    const want = [0, 1, 2].map((i) => full.data[i * full.cols + i]!)
    expect(distance(await grads[`${name}.svfit.s`]!.data(), want)).toBeLessThan(1e-4)
    const params = mapParams(tuned.params, (p) => add(p, tensor([1, -2, 0.5])))
    const after = toMatrix(tuned.fold(params).weights[name]!.dense())
    const core = multiply(transpose(u), multiply(after, v)) // diag(s) but for the first three
    const wanted = matrix(core.rows, core.cols)
    for (let i = 0; i < s.length; i++) wanted.data[i * core.cols + i] = s[i]! + ([1, -2, 0.5][i] ?? 0)
    expect(distance(core.data, wanted.data)).toBeLessThan(1e-4)
    expect(countParams(tuned.params)).toBe(3)
  })

  it('says what is wrong', () => {
    const at = (options: object) => () =>
      attach(tinyLlama(rng(0)), [{ adapter: svfit(options), at: 'blocks.0.attn.v' }], rng(0))
    expect(at({ rank: 9 })).toThrow('blocks.0.attn.v: rank 9 exceeds min(8, 16); lower rank or narrow "at"')
    expect(at({ rank: 0.5 })).toThrow('blocks.0.attn.v: rank must be a whole number of at least 1, found 0.5')
    expect(at({ energy: 0.9, rank: 2 })).toThrow(
      'svfit: rank and energy both say how many singular values train; give one',
    )
    expect(at({ energy: 0 })).toThrow('svfit: energy must be in (0, 1], found 0')
  })
})
