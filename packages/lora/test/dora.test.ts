import { attach } from '@weftjs/model'
import type { Adapter, Params } from '@weftjs/spec'
import {
  add,
  backprop,
  cpu,
  div,
  expandDims,
  mapParams,
  matMul,
  mul,
  rng,
  sqrt,
  square,
  stopGradient,
  sum,
  tensor,
} from '@weftjs/tensor'
import { tinyLlama, toyCodec } from '@weftjs/testkit'
import { dense, packed } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { type DoraState, dora, trainable } from '../src/dora.ts'
import { lora } from '../src/lora.ts'
import { distance } from './fixture.ts'

await cpu()
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const moved = (params: Params): Params => mapParams(params, (p, n) => add(p, rng(9).fork(n).normal(p.shape, 0.2)))

/** the equation as it stands, with W + s·B·A and its lengths made whole */
const plain = (s: number): Adapter<DoraState> => ({
  ...dora({ rank: 3 }),
  weight: (base, { a, b, m }) => {
    const v = add(base.dense(), mul(matMul(b, a), s))
    const lengths = stopGradient(sqrt(sum(square(v), 1)))
    return dense(mul(expandDims(div(m, lengths), 1), v) as never)
  },
})

describe('dora', () => {
  it('begins as the network: exactly on any base', async () => {
    for (const keep of [dense, (w: never) => packed(toyCodec(), w)]) {
      const net = tinyLlama(rng(0), { keep: keep as never })
      const want = await attach(net, [], rng(0)).forward({}, { ids }).logits.data()
      const tuned = attach(net, [{ adapter: dora({ rank: 3 }), at: ['**.{q,v,down}', 'embed'] }], rng(1))
      expect(distance(await tuned.forward(tuned.params, { ids }).logits.data(), want)).toBeLessThan(2e-6)
    }
  })

  it('has the logits and the gradients of the equation written out', async () => {
    const net = tinyLlama(rng(0))
    const at = 'blocks.*.*.{q,k,v,o,gate,up,down}'
    const [ours, want] = [dora({ rank: 3, alpha: 6 }), plain(2)].map((adapter) => {
      const tuned = attach(net, [{ adapter, at }], rng(1))
      const params = moved(tuned.params)
      const loss = (p: Params) => sum(square(tuned.forward(p, { ids }).logits)) as never
      return { logits: tuned.forward(params, { ids }).logits, grads: backprop(loss, params).grads }
    })
    expect(distance(await ours!.logits.data(), await want!.logits.data())).toBeLessThan(2e-5)
    for (const [name, g] of Object.entries(want!.grads)) {
      const [a, b] = [await ours!.grads[name]!.data(), await g.data()]
      expect(distance(a, b) / Math.max(...b.map(Math.abs)), name).toBeLessThan(1e-4)
    }
  })

  it('takes its lengths from what stands below it', async () => {
    const net = tinyLlama(rng(0))
    const at = 'blocks.0.mlp.up'
    const tuned = attach(
      net,
      [
        { adapter: lora({ rank: 2 }), at },
        { adapter: dora({ rank: 3 }), at },
      ],
      rng(1),
    )
    const params = moved(tuned.params)
    // with B = 0 every row of the result has length m, whatever LoRA did to W
    const still = mapParams(params, (p, n) => (n.endsWith('dora.b') ? mul(p, 0) : p))
    const w = tuned.fold(still).weights[at]!.dense()
    const lengths = await sqrt(sum(square(w), 1)).data()
    expect(distance(lengths, await still[`${at}.dora.m`]!.data())).toBeLessThan(1e-5)
  })

  it('counts a length for each output, and says what is wrong', () => {
    const site = { name: 'w', kind: 'linear' as const, layer: 0, in: 10, out: 6 }
    expect(trainable(site, { rank: 2 })).toBe(2 * 16 + 6)
    const at = (options: object) => () =>
      attach(tinyLlama(rng(0)), [{ adapter: dora(options), at: 'blocks.0.attn.v' }], rng(0))
    expect(at({ rank: 9 })).toThrow('blocks.0.attn.v: rank 9 exceeds min(8, 16); lower rank or narrow "at"')
  })
})
