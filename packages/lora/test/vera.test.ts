import { attach } from '@weftjs/model'
import { countParams, cpu, ones, rng } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { vera } from '../src/vera.ts'
import { apart, network, one, plus, type Rows, rowsOf, times } from './one.ts'

await cpu()
const cut = (rows: Rows, n: number, m: number): Rows => rows.slice(0, n).map((row) => row.slice(0, m))

describe('vera', () => {
  it('adds diag(b)·B·diag(d)·A, cut from one pair for all sites', () => {
    const at = ['blocks.*.mlp.{up,down}', 'blocks.0.attn.k']
    const tuned = attach(network, [{ adapter: vera({ rank: 5 }), at }], rng(1))
    expect(Object.keys(tuned.constants).sort()).toEqual(['vera.shared.a', 'vera.shared.b'])
    const [a, b] = ['a', 'b'].map((k) => rowsOf(tuned.constants[`vera.shared.${k}`]!)) as [Rows, Rows]
    expect([a.length, a[0]!.length, b.length, b[0]!.length]).toEqual([5, 24, 24, 5])
    expect(countParams(tuned.params)).toBe(5 * 5 + 2 * 24 + 2 * 16 + 8)
    const params = { ...tuned.params }
    for (const name in params) params[name] = rng(3).fork(name).normal(params[name]!.shape)
    const folded = tuned.fold(params)
    for (const site of ['blocks.0.mlp.up', 'blocks.1.mlp.down', 'blocks.0.attn.k']) {
      const w = rowsOf(network.weights[site]!.dense())
      const d = [...params[`${site}.vera.d`]!.dataSync()]
      const out = [...params[`${site}.vera.b`]!.dataSync()]
      const scaled = cut(a, 5, w[0]!.length).map((row, i) => row.map((v) => v * d[i]!))
      const delta = times(cut(b, w.length, 5), scaled).map((row, i) => row.map((v) => v * out[i]!))
      expect(apart(rowsOf(folded.weights[site]!.dense()), plus(w, delta))).toBeLessThan(1e-5)
    }
  })

  it('is a LoRA with fixed factors where both vectors are one', () => {
    const { tuned, w, after } = one(vera({ rank: 3 }), { change: (p) => ones(p.shape) })
    const [a, b] = ['a', 'b'].map((k) => rowsOf(tuned.constants[`vera.shared.${k}`]!)) as [Rows, Rows]
    expect(apart(after, plus(w, times(b, a)))).toBeLessThan(1e-5)
  })

  it('starts with d as it is told and b zero', () => {
    const { tuned } = one(vera({ rank: 3, initial: 0.25 }))
    expect([...tuned.params['blocks.0.mlp.up.vera.d']!.dataSync()]).toEqual([0.25, 0.25, 0.25])
    expect([...tuned.params['blocks.0.mlp.up.vera.b']!.dataSync()].every((v) => v === 0)).toBe(true)
  })

  it('draws other bases from another seed, the same from the same', () => {
    const a = (seed: number): Float32Array =>
      one(vera({ rank: 2, seed })).tuned.constants['vera.shared.a']!.dataSync() as never
    expect(a(1)).toEqual(a(1))
    expect(a(1)).not.toEqual(a(2))
  })

  it.each([
    [{ rank: 0 }, 'vera: rank must be a whole number of at least 1, found 0'],
    [{ seed: -1 }, 'vera: seed must be a whole number of at least 0, found -1'],
    [{ dropout: 1 }, 'vera: dropout must be in [0, 1), found 1'],
    [{ initial: Number.NaN }, 'vera: initial must be a number, found NaN'],
  ])('refuses %o', (options, message) => {
    expect(() => vera(options)).toThrow(message)
  })
})
