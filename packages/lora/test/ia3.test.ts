import { attach, tunedOf } from '@weftjs/model'
import { mapParams, mul, rng, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { bitfit } from '../src/bitfit.ts'
import { ia3 } from '../src/ia3.ts'
import { lnTuning } from '../src/ln-tuning.ts'
import { distance } from './fixture.ts'
import { apart, network, one, type Rows } from './one.ts'

const ids = { ids: tensor([1, 2, 3, 4], [1, 4], 'int32') }

describe('ia3', () => {
  it('scales outputs by rows, and by columns where inputs are meant', () => {
    const up = one(ia3())
    const l = up.params['blocks.0.mlp.up.ia3.l']!.dataSync()
    expect(up.after.length).toBe(l.length)
    expect(apart(up.after, up.w.map((row, i) => row.map((v) => v * l[i]!)) as Rows)).toBeLessThan(1e-6)
    const down = one(ia3(), { at: 'blocks.0.mlp.down' })
    const s = down.params['blocks.0.mlp.down.ia3.l']!.dataSync()
    expect(s.length).toBe(24)
    expect(
      apart(
        down.after,
        down.w.map((row) => row.map((v, j) => v * s[j]!)),
      ),
    ).toBeLessThan(1e-6)
  })

  it('scales the bias with the outputs, and leaves it where inputs are scaled', () => {
    for (const [feedforward, factor] of [
      [[], 3],
      [['**.attn.q'], 1],
    ] as const) {
      const tuned = attach(network, [{ adapter: ia3({ feedforward }), at: 'blocks.0.attn.q' }], rng(1))
      const folded = tuned.fold(mapParams(tuned.params, (p) => mul(p, 3)))
      const [a, b] = [folded, network].map((n) => n.vectors['blocks.0.attn.q.bias']!.dataSync())
      expect(
        distance(
          a!,
          b!.map((v) => factor * v),
        ),
      ).toBeLessThan(1e-6)
    }
  })
})

describe('bitfit', () => {
  it('trains the biases that are there, and no more', () => {
    const tuned = attach(network, [{ adapter: bitfit(), at: 'blocks.*.{attn,mlp}.{q,k,up}' }], rng(1))
    expect(Object.keys(tuned.params)).toEqual(
      ['0.attn.q', '0.attn.k', '1.attn.q', '1.attn.k'].map((s) => `blocks.${s}.bitfit.bias`),
    )
    const all = attach(network, [{ adapter: bitfit({ add: true }), at: 'blocks.0.mlp.up' }], rng(1))
    const folded = all.fold(mapParams(all.params, (p) => mul(tensor(Array(p.size).fill(0.5)), 1)))
    expect([...folded.vectors['blocks.0.mlp.up.bias']!.dataSync()]).toEqual(Array(24).fill(0.5))
    expect(network.vectors['blocks.0.mlp.up.bias']).toBeUndefined()
  })

  it('says so where there is none', () => {
    expect(() => attach(network, [{ adapter: bitfit(), at: 'blocks.*.mlp.{up,gate}' }], rng(1))).toThrow(
      'blocks.0.mlp.gate: bitfit trains biases, and none of the 4 sites of "at" has one',
    )
  })
})

describe('ln-tuning', () => {
  it('begins at the scales of the norms, and puts its own in their place', async () => {
    const tuned = attach(network, [{ adapter: lnTuning(), at: ['norm', 'blocks.1.norm2'] }], rng(1))
    const name = 'blocks.1.norm2.ln-tuning.scale'
    expect(tuned.params[name]!.dataSync()).toEqual(network.vectors['blocks.1.norm2']!.dataSync())
    const folded = tuned.fold({ ...tuned.params, [name]: mul(tuned.params[name]!, 2) })
    expect(
      distance(
        folded.vectors['blocks.1.norm2']!.dataSync(),
        tuned.params[name]!.dataSync().map((v) => 2 * v),
      ),
    ).toBe(0)
  })

  it('another adapter of the same vector adds to it, in either order', async () => {
    const at = 'blocks.1.attn.q'
    const both = attach(
      network,
      [
        { adapter: bitfit(), at },
        { adapter: bitfit(), at, name: 'second' },
      ],
      rng(1),
    )
    const params = mapParams(both.params, (p, n) => mul(rng(n.length).normal(p.shape), 1))
    const bias = both.fold(params).vectors[`${at}.bias`]!.dataSync()
    const want = network.vectors[`${at}.bias`]!.dataSync().map((v, i) =>
      Object.values(params).reduce((s, p) => s + p.dataSync()[i]!, v),
    )
    expect(distance(bias, want)).toBeLessThan(1e-6)
    expect(await tunedOf(both).forward(params, ids).logits.data()).toEqual(
      await both.forward(params, ids).logits.data(),
    )
  })

  it('refuses what is no norm', () => {
    expect(() => attach(network, [{ adapter: lnTuning(), at: 'blocks.0.attn.q' }], rng(1))).toThrow(
      'blocks.0.attn.q (linear): ln-tuning trains norms',
    )
  })
})
