import type { Params } from '@weftjs/spec'
import {
  add,
  applyUpdates,
  backprop,
  concat,
  countParams,
  cpu,
  linear,
  logSoftmax,
  mapParams,
  mean,
  mul,
  neg,
  oneHot,
  rng,
  slice,
  sum,
  type Tensor,
  tensor,
  tensor1d,
} from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { attach, initNetwork, prototypeHead } from '../src/index.ts'
import { distance } from './fixture.ts'

await cpu()
const D = 6
const tokens = rng(1).normal([2, 10, D]) // a class token and nine patches
const head = (options: object = {}) => prototypeHead(D, { classes: 3, each: 2, ...options }, rng(2))
const moved = (p: Params): never => mapParams(p, (t, n) => add(t, rng(3).fork(n).normal(t.shape, 0.5))) as never

describe('prototypes', () => {
  it('are compared by cosine with each patch less the class token, by hand', async () => {
    const h = head()
    const params = moved(h.params) as (typeof h)['params']
    const { logits, activations } = h.run(params, tokens)
    const [x, p, w, b] = await Promise.all([tokens, params.prototypes, params.weight, params.bias].map((t) => t.data()))
    const norm = (v: number[]): number => Math.sqrt(v.reduce((s, a) => s + a * a, 0)) + 1e-4
    const at = (i: number, t: number): number[] =>
      Array.from({ length: D }, (_, d) => x![(i * 10 + t) * D + d]! - x![i * 10 * D + d]!)
    const wanted: number[] = []
    const scores: number[] = []
    for (const i of [0, 1])
      for (const c of [0, 1, 2]) {
        let logit = b![c]!
        for (const j of [0, 1]) {
          const proto = Array.from({ length: D }, (_, d) => p![(c * 2 + j) * D + d]!)
          const best = Math.max(
            ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map((t) => {
              const z = at(i, t)
              return Math.max(0, z.reduce((s, v, d) => s + v * proto[d]!, 0) / norm(z) / norm(proto) / 1.01)
            }),
          )
          scores.push(best)
          logit += Math.max(0, w![c * 2 + j]!) * best
        }
        wanted.push(logit)
      }
    expect(distance(await activations.data(), scores)).toBeLessThan(1e-5)
    expect(distance(await logits.data(), wanted)).toBeLessThan(1e-5)
  })

  it('do not mind the order of patches, nor their size or that of prototypes', async () => {
    const h = head()
    const params = moved(h.params) as (typeof h)['params']
    const base = await h.run(params, tokens).logits.data()
    const turned = concat(
      [0, 5, 4, 9, 8, 1, 2, 3, 7, 6].map((t) => slice(tokens, [0, t, 0], [2, 1, D])),
      1,
    )
    expect(distance(await h.run(params, turned).logits.data(), base)).toBeLessThan(1e-6)
    const large = h.run({ ...params, prototypes: mul(params.prototypes, 7) }, mul(tokens, 50))
    expect(distance(await large.logits.data(), base)).toBeLessThan(1e-3)
  })

  it('of another class never change a logit', async () => {
    const h = head()
    const { grads } = backprop(
      (p) => sum(slice(h.run(p as never, tokens).logits, [0, 1], [2, 1])) as never,
      moved(h.params),
    )
    const g = await grads['prototypes']!.data()
    expect([0, 1, 2].map((c) => g.slice(c * 2 * D, (c + 1) * 2 * D).some((v) => v !== 0))).toEqual([false, true, false])
  })

  it('have no penalty where they stand upright on each other, in each class', async () => {
    const h = head()
    const rows = [0, 1, 1, 2, 2, 0].flatMap((d) => Array.from({ length: D }, (_, i) => (i === d ? 3 : 0)))
    const upright = { ...h.params, prototypes: tensor(rows, [6, D]) }
    expect((await h.orthogonality(upright).data())[0]).toBeLessThan(1e-4)
    const same = { ...h.params, prototypes: tensor(Array(36).fill(1), [6, D]) }
    // each class: two off-diagonal ones; √6/12
    expect((await h.orthogonality(same).data())[0]).toBeCloseTo(Math.sqrt(6) / 12, 3)
  })

  it('count C·J·D + C·J + C numbers, and begin as the authors’', async () => {
    const h = head({ each: 20 })
    expect(countParams(h.params)).toBe(3 * 20 * D + 3 * 20 + 3)
    expect([...(await h.params.bias.data())]).toEqual([-2, -2, -2])
    expect((await h.params.weight.data()).every((v) => v === 1)).toBe(true)
    expect((await h.params.prototypes.data()).every((v) => v >= 0 && v < 1)).toBe(true)
  })

  it('take the mean of the best patches, and learn through it', async () => {
    const [one, three] = [head(), head({ best: 3 })]
    const params = moved(one.params) as (typeof one)['params']
    const all = await head({ best: 9 }).run(params, tokens).activations.data()
    const [a, b] = [
      await one.run(params, tokens).activations.data(),
      await three.run(params, tokens).activations.data(),
    ]
    expect(a.every((v, i) => v >= b[i]! && b[i]! >= all[i]!)).toBe(true)
    const { grads } = backprop((p) => sum(three.run(p as never, tokens).logits) as never, params)
    expect((await grads['prototypes']!.data()).some((v) => v !== 0)).toBe(true)
  })

  it('see a grid made twice as fine: bilinear, as PyTorch does it without aligned corners', async () => {
    // one channel that grows along x: 0, 1 → 0, 0.25, 0.75, 1
    const plain = prototypeHead(2, { classes: 1, each: 1, focal: false, upsample: 2 }, rng(0))
    const grid = tensor([1, 0, 0, 1, 1, 0, 0, 1], [1, 4, 2])
    const { activations } = plain.run({ ...plain.params, prototypes: tensor([0.75, 0.25], [1, 2]) }, grid)
    expect((await activations.data())[0]).toBeCloseTo(1 / 1.01, 3)
    expect(() => head({ upsample: 2 }).run(head().params, tokens)).toThrow(
      'prototypes: 9 patches are no grid of 2 by 2',
    )
  })

  it('find a class in one patch of many, where the mean of patches hides it', () => {
    const data = (seed: number) => {
      const labels = Array.from(rng(seed).numbers(48), (u) => Math.floor(u * 2))
      const where = Array.from(rng(seed + 1).numbers(48), (u) => Math.floor(u * 16))
      const noise = rng(seed + 2)
        .normal([48, 16, 8], 1)
        .dataSync()
      labels.forEach((c, i) => {
        noise[(i * 16 + where[i]!) * 8 + c] = noise[(i * 16 + where[i]!) * 8 + c]! + 6
      })
      return { tokens: tensor(noise, [48, 16, 8]), labels: tensor1d(labels, 'int32'), ids: labels }
    }
    const [train, held] = [data(10), data(20)]
    const h = prototypeHead(8, { classes: 2, each: 4, focal: false }, rng(1))
    const right = (z: Tensor, ids: number[]): number =>
      ids.filter((c, i) => z.dataSync()[i * 2 + c]! > z.dataSync()[i * 2 + 1 - c]!).length / ids.length
    const fit = (start: Params, run: (p: Params, x: Tensor) => Tensor, lr: number): number => {
      let params = start
      const loss = (p: Params) => neg(mean(sum(mul(logSoftmax(run(p, train.tokens)), oneHot(train.labels, 2)), 1)))
      for (let step = 0; step < 60; step++) {
        const { grads } = backprop((p) => loss(p) as never, params)
        params = applyUpdates(
          params,
          mapParams(grads, (g) => mul(g, -lr)),
        )
      }
      return right(run(params, held.tokens), held.ids)
    }
    const ours = fit(h.params, (p, x) => h.run(p as never, x).logits, 5)
    const probe = fit({ w: rng(2).normal([2, 8], 0.1) }, (p, x) => linear(mean(x, 1), p['w']!), 0.5)
    expect(ours).toBeGreaterThan(0.85)
    expect(ours).toBeGreaterThan(probe)
  })

  it('stand on the tokens of a ViT', () => {
    const source = {
      ...{
        model_type: 'vit',
        architectures: ['ViTModel'],
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
      },
      ...{ intermediate_size: 12, image_size: 8, patch_size: 4, num_channels: 3 },
    }
    const vit = attach(initNetwork(source, rng(0)), [], rng(0))
    const { hidden } = vit.run({}, { pixels: rng(1).normal([2, 3, 8, 8]) })
    const h = prototypeHead(8, { classes: 3 }, rng(1))
    expect(h.run(h.params, hidden).logits.shape).toEqual([2, 3])
    expect(() => head().run(head().params, hidden)).toThrow('prototypes: tokens are 8 wide, prototypes 6')
    expect(() => head({ each: 0 })).toThrow('prototypes: each must be a whole number of at least 1, found 0')
    expect(() => head({ best: 10 }).run(head().params, tokens)).toThrow('prototypes: best 10 exceeds 9 patches')
  })
})
