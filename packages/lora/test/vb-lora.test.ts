import { attach, tunedOf } from '@weftjs/model'
import { mapParams, rng, tensor, tensor3d } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { compacted, vbLora } from '../src/vb-lora.ts'
import { distance } from './fixture.ts'
import { apart, network, one, plus, type Rows, rowsOf, times, turn } from './one.ts'

const OPTIONS = { rank: 2, vectors: 6, length: 8, top: 2, bound: 0.5, std: 1 }
const up = 'blocks.0.mlp.up' // [24, 16]
const ids = { ids: tensor([1, 2, 3, 4], [1, 4], 'int32') }

describe('vb-lora', () => {
  it('mixes each piece of A and B of the k best vectors, by the definition', () => {
    const { params, w, after } = one(vbLora(OPTIONS))
    const bank = rowsOf(params['vb-lora.shared.bank']!)
    const piece = (logits: readonly number[]): number[] => {
      const order = logits
        .map((_, i) => i)
        .sort((p, q) => logits[q]! - logits[p]!)
        .slice(0, 2)
      const e = order.map((i) => Math.exp(logits[i]!))
      const sum = e[0]! + e[1]!
      return bank[0]!.map((_, d) => order.reduce((s, i, n) => s + (e[n]! / sum) * bank[i]![d]!, 0))
    }
    const [la, lb] = ['a', 'b'].map((k) => params[`${up}.vb-lora.${k}`]!.arraySync() as unknown as number[][][])
    const A: Rows = la!.map((pieces) => pieces.flatMap(piece)) // [2, 16]
    // piece i of column j of B stands in its rows 8i to 8i + 7
    const B = turn([0, 1].map((j) => lb!.flatMap((ranks) => piece(ranks[j]!)))) // [24, 2]
    expect(apart(after, plus(w, times(B, A)))).toBeLessThan(1e-5)
  })

  it('one bank trains for all sites', () => {
    const tuned = attach(network, [{ adapter: vbLora(OPTIONS), at: 'blocks.*.mlp.{up,gate}' }], rng(1))
    expect(Object.keys(tuned.params).filter((n) => n.includes('bank'))).toEqual(['vb-lora.shared.bank'])
    expect(tuned.params['vb-lora.shared.bank']!.shape).toEqual([6, 8])
  })

  it('compact means the same, in k − 1 weights and k places: by hand, and in a network', async () => {
    const { weights, places } = compacted(tensor3d([[[0, Math.log(3), -5, Math.log(1)]]]), 2)
    expect(weights.shape).toEqual([1, 1, 1])
    expect(weights.dataSync()[0]).toBeCloseTo(0.75, 6)
    expect(places.dataSync()[0]).toBe(1)
    const { tuned, params } = one(vbLora(OPTIONS))
    const small = attach(network, [{ adapter: vbLora({ ...OPTIONS, compact: true }), at: up }], rng(3))
    expect(Object.keys(small.params)).toEqual(['vb-lora.shared.bank'])
    const constants = { ...small.constants }
    for (const key of ['a', 'b']) {
      const found = compacted(params[`${up}.vb-lora.${key}`]!, 2)
      constants[`${up}.vb-lora.${key}`] = found.weights
      constants[`${up}.vb-lora.${key}Places`] = found.places
    }
    const bank = mapParams(small.params, (_, n) => params[n]!)
    const [a, b] = [tunedOf({ ...small, constants }).forward(bank, ids), tuned.forward(params, ids)]
    expect(distance(await a.logits.data(), await b.logits.data())).toBeLessThan(1e-5)
  })

  it('refuses what does not fit', () => {
    expect(() => attach(network, [{ adapter: vbLora({ ...OPTIONS, length: 16 }), at: up }], rng(1))).toThrow(
      'blocks.0.mlp.up: length 16 does not divide 24 and 16',
    )
    expect(() => vbLora({ vectors: 3, top: 4 })).toThrow('vb-lora: top 4 exceeds the 3 vectors')
  })
})
