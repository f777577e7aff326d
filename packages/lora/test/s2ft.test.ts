import { attach, sitesOf, type Tuned } from '@weftjs/model'
import type { Params, Tensor } from '@weftjs/spec'
import { add, backprop, countParams, cpu, linear, mapParams, oneHot, rng, sum, tensor, toFloat } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { lowRank, sum as plus } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { type S2ftOptions, s2ft, s2ftPermuted, s2ftSelection, s2ftToLora } from '../src/s2ft.ts'
import { distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0), { biases: true })
const sites = sitesOf(network)
const ids = tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 4], 'int32')
const AT = 'blocks.*.{attn,mlp}.{v,o,up,down}'
const options: S2ftOptions = { heads: 0.5, channels: 0.25, seed: 4 }
const logits = (tuned: Tuned, params: Params = tuned.params): Tensor => tuned.forward(params, { ids }).logits
const on = (o: S2ftOptions = options, at: string | string[] = AT, net = network): Tuned =>
  attach(net, [{ adapter: s2ft(o), at }], rng(1))
const moved = (tuned: Tuned): Params => mapParams(tuned.params, (p, n) => add(p, rng(2).fork(n).normal(p.shape, 0.3)))
const plain = logits(attach(network, [], rng(0))).dataSync()

describe('s2ft', () => {
  it('draws units of all layers together: 2 of 4 heads and 12 of 48 channels', () => {
    const found = s2ftSelection(
      sites.filter((s) => /\.(v|o|up|down)$/.test(s.name)),
      options,
    )
    const units = (kind: string): number[][] =>
      Object.keys(found)
        .filter((g) => g.startsWith(kind))
        .map((g) => found[g]!)
    expect(units('vo').flat()).toHaveLength(2)
    expect(units('mlp').flat()).toHaveLength(12)
    // the same where fewer sites take part, so that o alone and o with v go together
    expect(
      s2ftSelection(
        sites.filter((s) => /\.(o|down)$/.test(s.name)),
        options,
      ),
    ).toEqual(found)
    const spread = new Set(
      Array.from(
        { length: 12 },
        (_, seed) =>
          (
            s2ftSelection(
              sites.filter((s) => s.name.endsWith('.down')),
              { channels: 0.25, seed },
            )['mlp.0'] ?? []
          ).length,
      ),
    )
    expect(spread.size).toBeGreaterThan(2)
  })

  it('trains out·c numbers of a matrix that reads c units, in·c of one that makes them', () => {
    const found = s2ftSelection(
      sites.filter((s) => s.name.endsWith('.down')),
      options,
    )
    const tuned = on(options, 'blocks.*.mlp.{up,down}')
    const c = Object.values(found).flat().length
    expect(countParams(tuned.params)).toBe(c * 16 + c * 16)
    // one key-value head of two: two queries of four numbers each
    const heads = on({ heads: 0.25, channels: 0 }, 'blocks.*.attn.o')
    expect(countParams(heads.params)).toBe(16 * 8)
    expect(countParams(on({ heads: 0.25, channels: 0 }, 'blocks.*.attn.v').params)).toBe(16 * 4)
  })

  it('changes nothing but its rows and columns', () => {
    const tuned = on()
    const params = moved(tuned)
    const folded = tuned.fold(params)
    const found = s2ftSelection(
      tuned.bound.map((b) => b.site),
      options,
    )
    for (const { site } of tuned.bound) {
      const [w, after] = [network.weights[site.name]!.dense(), folded.weights[site.name]!.dense()].map((t) =>
        t.dataSync(),
      )
      const reads = /\.(o|down)$/.test(site.name)
      const units = found[site.axes![reads ? 1 : 0]]!
      const width = /\.o$/.test(site.name) ? 8 : /\.v$/.test(site.name) ? 4 : 1
      w!.forEach((v: number, i: number) => {
        const place = reads ? i % site.in : Math.floor(i / site.in)
        const inside = units.includes(Math.floor(place / width))
        expect(after![i] !== v).toBe(inside)
      })
    }
  })

  it('has the gradient of the whole matrix on its slice', () => {
    const tuned = on(options, 'blocks.*.mlp.down')
    const whole = attach(network, [], rng(0), { train: 'blocks.*.mlp.down' })
    const loss = (t: Tuned) => (p: Params) => sum(linear(logits(t, p), rng(3).normal([1, 24]))) as never
    const [a, b] = [backprop(loss(tuned), tuned.params).grads, backprop(loss(whole), whole.params).grads]
    for (const { site, prefix } of tuned.bound) {
      const at = toFloat(oneHot(tuned.constants[`${prefix}.at`] as never, 24))
      // G·Eᵀ
      expect(distance(a[`${prefix}.v`]!.dataSync(), linear(b[site.name]!, at).dataSync())).toBeLessThan(1e-4)
    }
  })

  it('is a LoRA of rank c for the network as it was', () => {
    const tuned = on()
    const params = moved(tuned)
    const folded = tuned.fold(params)
    for (const { site, prefix } of tuned.bound) {
      const { b, a } = s2ftToLora(site, {
        v: params[`${prefix}.v`] as never,
        at: tuned.constants[`${prefix}.at`] as never,
      })
      const sumOf = plus(network.weights[site.name]!, lowRank(b, a)).dense()
      expect(distance(sumOf.dataSync(), folded.weights[site.name]!.dense().dataSync())).toBeLessThan(1e-6)
    }
    const front = on({ ...options, front: true }, AT, s2ftPermuted(network, sites, options))
    expect(() => s2ftToLora(front.bound[0]!.site, { v: Object.values(front.params)[0] as never })).toThrow(
      'attach without "front"',
    )
  })
})

describe('permuted', () => {
  const permuted = s2ftPermuted(network, sites, options)
  const selected = s2ftSelection(
    sites.filter((s) => /\.(v|o|up|down)$/.test(s.name)),
    options,
  )

  it('it is the same function, and undone the same numbers', () => {
    expect(distance(logits(attach(permuted, [], rng(0))).dataSync(), plain)).toBeLessThan(1e-5)
    expect(
      distance(
        permuted.weights['blocks.0.mlp.up']!.dense().dataSync(),
        network.weights['blocks.0.mlp.up']!.dense().dataSync(),
      ),
    ).toBeGreaterThan(0)
    const back = s2ftPermuted(permuted, sitesOf(permuted), options, true)
    for (const n of Object.keys(network.weights))
      expect([...back.weights[n]!.dense().dataSync()]).toEqual([...network.weights[n]!.dense().dataSync()])
    for (const n of Object.keys(network.vectors))
      expect([...back.vectors[n]!.dataSync()]).toEqual([...network.vectors[n]!.dataSync()])
  })

  it('a slice in front is the same model as its places in the network as it was', () => {
    const [front, there] = [on({ ...options, front: true }, AT, permuted), on()]
    const params = moved(there)
    // the slice has the units in the order of the draw, and so has the one-hot matrix
    const same = Object.fromEntries(Object.entries(params))
    expect(Object.keys(front.params)).toEqual(Object.keys(params))
    expect(Object.keys(front.constants)).toEqual([])
    expect(distance(logits(front, same).dataSync(), logits(there, params).dataSync())).toBeLessThan(1e-5)
    // and undone, the folded network is that of the other
    const undone = s2ftPermuted(front.fold(same), sitesOf(permuted), options, true)
    const other = there.fold(params)
    for (const n of Object.keys(other.weights))
      expect(distance(undone.weights[n]!.dense().dataSync(), other.weights[n]!.dense().dataSync())).toBeLessThan(1e-6)
    expect(Object.keys(selected).length).toBeGreaterThan(1)
  })
})

it('says what cannot be', () => {
  expect(() => on({ heads: 0.01, channels: 0.001 })).toThrow('shares of 0.01 heads and 0.001 channels come to no unit')
  expect(() => on(options, 'blocks.*.attn.q')).toThrow('blocks.0.attn.q: neither makes nor reads whole heads')
  expect(() => s2ft({ heads: 2 })).toThrow('s2ft: heads must be in (0, 1], found 2')
})
