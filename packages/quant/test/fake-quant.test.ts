import { attach, nextToken } from '@weftjs/model'
import type { Codec, Params, Scalar, Tensor } from '@weftjs/spec'
import {
  add,
  applyUpdates,
  backprop,
  cpu,
  dispose,
  div,
  gradients,
  keepParams,
  linear,
  mapParams,
  mul,
  rng,
  sqrt,
  square,
  sum,
  tensor,
  tidy,
  wasm,
  zerosLike,
} from '@weftjs/tensor'
import { testAdapter, tinyLlama } from '@weftjs/testkit'
import { packed } from '@weftjs/weight'
import { beforeAll, describe, expect, it } from 'vitest'
import { affine, aqlm, fakeQuant, int8, nf4, quantize } from '../src/index.ts'
import { trainable } from '../src/train/fake-quant.ts'

const suite = { startsAsIdentity: false, count: trainable }
testAdapter(fakeQuant({ of: nf4({ block: 32 }) }), suite)
testAdapter(fakeQuant({ of: affine({ bits: 3, group: 8 }) }), { ...suite, backend: wasm })

const AT = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
const idsOf = (): Tensor =>
  tensor(
    Int32Array.from({ length: 32 }, (_, i) => (i * 7 + Math.floor(i / 8)) % 24),
    [4, 8],
    'int32',
  )
const batch = { shape: [4, 8] as const, targets: Int32Array.from({ length: 32 }, (_, i) => (i * 5 + 3) % 24) }

describe('training that knows how it will be rounded', () => {
  beforeAll(async () => {
    await cpu()
  })

  it.each([
    ['nf4', nf4({ block: 32 }) as Codec],
    ['int8', int8() as Codec],
    ['two bits', affine({ bits: 2, group: 8 }) as Codec],
    ['aqlm', aqlm({ bits: 2, group: 4, rounds: 1, calibrate: false }) as Codec],
  ])('%s: folded, it is packed, and gives the logits that it gave', (_, of) => {
    const tuned = attach(tinyLlama(rng(1)), [{ adapter: fakeQuant({ of }), at: AT }], rng(0))
    const params = mapParams(tuned.params, (p, n) => add(p, rng(3).fork(n).normal(p.shape, 0.1)))
    const folded = tuned.fold(params)
    for (const { site } of tuned.bound) expect(folded.weights[site.name]!.format).toBe(of.name)
    const [a, b] = [
      tuned.forward(params, { ids: idsOf() }).logits.dataSync(),
      attach(folded, [], rng(0)).forward({}, { ids: idsOf() }).logits.dataSync(),
    ]
    a.forEach((v, i) => {
      expect(v).toBeCloseTo(b[i]!, 5)
    })
  })

  it('its gradient is that of a dense matrix at the rounded values', () => {
    const network = tinyLlama(rng(2))
    const of = nf4({ block: 32 }) as Codec
    const tuned = attach(network, [{ adapter: fakeQuant({ of }), at: 'blocks.0.mlp.up' }], rng(0))
    const name = 'blocks.0.mlp.up.fake-quant.w'
    const { bound } = tuned
    const weight = bound[0]!.adapter.weight!(bound[0]!.base!, { w: tuned.params[name]! }, {
      site: bound[0]!.site,
    } as never)
    const x = rng(5).normal([2, 3, 16])
    const dy = rng(6).normal([2, 3, 24])
    const q = packed(of, tuned.params[name] as never).dense()
    const [g1, g2] = gradients(() => sum(mul(weight.apply(x), dy)), [tuned.params[name]!, x]).grads
    const [h1, h2] = gradients(() => sum(mul(linear(x, q), dy)), [q, x]).grads
    for (const [g, h] of [
      [g1, h1],
      [g2, h2],
    ])
      g!.dataSync().forEach((v, i) => {
        expect(v).toBeCloseTo(h!.dataSync()[i]!, 5)
      })
  })

  const adam = (start: Params, loss: (p: Params) => Scalar, steps: number, lr: number): Params => {
    const copy = (f: (t: Tensor) => Tensor): Params => tidy(() => keepParams(mapParams(start, f)))
    let [params, m, v] = [copy((p) => add(p, 0)), copy(zerosLike), copy(zerosLike)]
    for (let t = 1; t <= steps; t++) {
      const next = tidy(() => {
        const { grads } = backprop(loss, params)
        const m1 = mapParams(grads, (g, n) => add(mul(m[n]!, 0.9), mul(g, 0.1)))
        const v1 = mapParams(grads, (g, n) => add(mul(v[n]!, 0.99), mul(square(g), 0.01)))
        const rate = (-lr * Math.sqrt(1 - 0.99 ** t)) / (1 - 0.9 ** t)
        return {
          m: m1,
          v: v1,
          params: applyUpdates(
            params,
            mapParams(m1, (x, n) => mul(div(x, add(sqrt(v1[n]!), 1e-8)), rate)),
          ),
        }
      })
      dispose([...Object.values(params), ...Object.values(m), ...Object.values(v)])
      ;({ params, m, v } = next)
    }
    return params
  }
  it('at two bits it ends below what is trained first and rounded then', async () => {
    await wasm()
    const of = affine({ bits: 2, group: 8 }) as Codec
    const margins: number[][] = []
    for (const seed of [1, 2, 3]) {
      const network = tinyLlama(rng(seed))
      const lossOf = (tuned: ReturnType<typeof attach>) => (p: Params) =>
        nextToken(tuned.run(p, { ids: idsOf() }, { training: true }), batch)
      const aware = attach(network, [{ adapter: fakeQuant({ of }), at: AT }], rng(0))
      const params = adam(aware.params, lossOf(aware), 60, 0.01)
      const plain = attach(network, [], rng(0), { train: AT })
      const whole = adam(plain.params, lossOf(plain), 60, 0.01)
      const rounded = attach(await quantize(plain.fold(whole), of), [], rng(0))
      const ends = [lossOf(plain)(whole), lossOf(rounded)({}), lossOf(aware)(params)].map((l) => l.dataSync()[0]!)
      expect(ends[2]).toBeLessThan(ends[1]!)
      margins.push(ends.map((v) => +v.toFixed(3)))
    }
    console.info('loss: dense, trained and rounded to 2 bits, trained rounded', JSON.stringify(margins))
  })

  it('needs a format', () => {
    expect(() => fakeQuant({} as never)).toThrow('give the format that the network will be in')
  })
})
