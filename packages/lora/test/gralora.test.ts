import { attach } from '@weftjs/model'
import { cpu, rng } from '@weftjs/tensor'
import { matrix, svd } from '@weftjs/tensor/linalg'
import { describe, expect, it } from 'vitest'
import { gralora } from '../src/gralora.ts'
import { apart, network, one, plus, type Rows, times, turn } from './one.ts'

await cpu()
const rank = (rows: Rows): number => {
  const { s } = svd(matrix(rows.length, rows[0]!.length, rows.flat()))
  return [...s].filter((v) => v > 1e-5 * s[0]!).length
}

describe('gralora', () => {
  it('adds to block [i, j] its own product of rank r/k', () => {
    const [r, k] = [4, 2]
    const { params, w, after } = one(gralora({ rank: r, alpha: 6, parts: k }))
    const a = params['blocks.0.mlp.up.gralora.a']!.arraySync() as number[][][] // [k, in/k, r]
    const b = params['blocks.0.mlp.up.gralora.b']!.arraySync() as number[][][] // [k, r, out/k]
    const [tall, wide] = [24 / k, 16 / k]
    const delta = w.map((row, o) =>
      row.map((_, i) => {
        const [to, from] = [Math.floor(o / tall), Math.floor(i / wide)]
        // of what part `from` makes, numbers to·r/k ... go to part `to`, which reads them at from·r/k ...
        return [...Array(r / k).keys()].reduce(
          (s, n) => s + a[from]![i % wide]![(to * r) / k + n]! * b[to]![(from * r) / k + n]![o % tall]!,
          0,
        )
      }),
    )
    expect(apart(after, plus(w, delta, 6 / r))).toBeLessThan(1e-5)
    expect(rank(delta)).toBe(r * 2) // k times that of a LoRA with as many numbers
  })

  it('is LoRA where there is one part', () => {
    const { params, w, after } = one(gralora({ rank: 3, alpha: 3, parts: 1 }))
    const [a, b] = ['a', 'b'].map((n) => (params[`blocks.0.mlp.up.gralora.${n}`]!.arraySync() as number[][][])[0]!)
    expect(apart(after, plus(w, turn(times(a!, b!))))).toBeLessThan(1e-5)
  })

  it('has a plain LoRA beside it, and divides α by both ranks', () => {
    const zero = one(gralora({ rank: 2, hybrid: 4, alpha: 12 }), {
      change: (p, key) => (key === 'b' ? p : rng(1).fork(key).normal(p.shape)),
    })
    expect(apart(zero.after, plus(zero.w, times(zero.state('gb'), zero.state('ga')), 12 / 6))).toBeLessThan(1e-5)
  })

  it('refuses ranks and matrices that cannot be cut', () => {
    expect(() => gralora({ rank: 3, parts: 2 })).toThrow('gralora: rank 3 is no multiple of 2 parts')
    expect(() => attach(network, [{ adapter: gralora({ rank: 3, parts: 3 }), at: '**.up' }], rng(0))).toThrow(
      'blocks.0.mlp.up: [24, 16] cannot be cut into 3 by 3',
    )
  })
})
