import { attach } from '@weftjs/model'
import { countParams, rng } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { fourierft, places } from '../src/fourierft.ts'
import { apart, network, one, plus } from './one.ts'

describe('fourierft', () => {
  it.each(['blocks.0.mlp.up', 'blocks.0.mlp.down', 'blocks.0.attn.k'])(
    '%s: adds s·Re(F⁻¹(S)), a sum of n waves',
    (at) => {
      const { params, w, after } = one(fourierft({ frequencies: 30, scale: 40, seed: 5 }), { at })
      const [out, input] = [w.length, w[0]!.length]
      const c = params[`${at}.fourierft.c`]!.dataSync() as Float32Array
      const spots = places([out, input], 30, 5)
      const delta = w.map((row, j) =>
        row.map((_, k) =>
          c.reduce(
            (s, v, l) => s + v * Math.cos(2 * Math.PI * ((j * spots[l]!) / out + (k * spots[30 + l]!) / input)),
            0,
          ),
        ),
      )
      expect(apart(after, plus(w, delta, 40 / (out * input)))).toBeLessThan(1e-5)
    },
  )

  it('places each number in an entry of its own, the same in all matrices of a shape', () => {
    const spots = places([24, 16], 100, 777)
    const pairs = Array.from({ length: 100 }, (_, i) => `${spots[i]},${spots[100 + i]}`)
    expect(new Set(pairs).size).toBe(100)
    expect(places([24, 16], 100, 777)).toEqual(spots)
    expect(places([24, 16], 100, 778)).not.toEqual(spots)
    // torch.randperm(24·576)[:3] of seed 777: 13415, 6603, 7229
    expect([...places([24, 576], 3, 777)]).toEqual([23, 11, 12, 167, 267, 317])
  })

  it('trains n numbers at each site whatever its size, by the patterns', () => {
    const adapter = fourierft({ frequencies: 20, frequenciesPattern: { 'mlp\\.up': 7 } })
    const tuned = attach(network, [{ adapter, at: 'blocks.0.mlp.*' }], rng(0))
    expect(countParams(tuned.params)).toBe(20 + 7 + 20)
  })

  it('refuses more numbers than entries, and other starts', () => {
    expect(() => attach(network, [{ adapter: fourierft(), at: '**.up' }], rng(0))).toThrow(
      'blocks.0.mlp.up: 1000 frequencies for [24, 16], which has 384; lower "frequencies"',
    )
    expect(() => fourierft({ init: 'ones' as never })).toThrow(
      "fourierft: init must be 'normal' or 'zero', found 'ones'",
    )
    expect(() => one(fourierft({ frequencies: 0 }))).toThrow(
      'blocks.0.mlp.up: frequencies must be a whole number of at least 1, found 0',
    )
  })
})
