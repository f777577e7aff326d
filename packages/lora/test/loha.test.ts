import { attach } from '@weftjs/model'
import { cpu, rng } from '@weftjs/tensor'
import { matrix, svd } from '@weftjs/tensor/linalg'
import { describe, expect, it } from 'vitest'
import { loha } from '../src/loha.ts'
import { apart, network, one, plus, rowsOf, times } from './one.ts'

await cpu()

describe('loha', () => {
  // 2·2·(24 + 16) numbers are fewer than 24·16, 6·6·(24 + 16) are more: both ways
  it.each([2, 6])('rank %i: adds (α/r)·(X₁Y₁)⊙(X₂Y₂), of rank r² where the matrix has room', (rank) => {
    const { state, w, after } = one(loha({ rank, alpha: 3 }))
    const [p, q] = [times(state('x1'), state('y1')), times(state('x2'), state('y2'))]
    const delta = p.map((row, i) => row.map((v, j) => v * q[i]![j]!))
    expect(apart(after, plus(w, delta, 3 / rank))).toBeLessThan(1e-5)
    const { s } = svd(matrix(24, 16, delta.flat()))
    expect([...s].filter((v) => v > 1e-6 * s[0]!).length).toBe(Math.min(16, rank * rank))
  })

  it('drops outputs of the update only, the rest larger by their share, and now and then all of it', () => {
    const site = { name: 'x', kind: 'linear' as const, layer: 0, in: 3, out: 400 }
    const base = {
      shape: [400, 3] as const,
      parts: {},
      apply: () => rng(0).normal([1, 400], 0),
      dense: () => rng(0).normal([400, 3], 0) as never,
      like: () => base as never,
    }
    const adapter = loha({ rank: 1, alpha: 1, rankDropout: 0.25 })
    const ones = (shape: number[]) => rng(0).uniform(shape, 1, 1)
    const state = { x1: ones([400, 1]), y1: ones([1, 3]), x2: ones([400, 1]), y2: ones([1, 3]) } as never
    const context = (training: boolean, seed: number) =>
      ({
        site,
        training,
        rng: rng(seed),
        inputs: {},
        inner: [],
        shared: {},
        scratch: new Map(),
        penalty: () => {},
      }) as never
    const y = [
      ...adapter.weight!(base as never, state, context(true, 1))
        .apply(ones([1, 3]))
        .dataSync(),
    ]
    const kept = y.filter((v) => v !== 0)
    expect(kept.length / 400).toBeGreaterThan(0.68)
    expect(kept.length / 400).toBeLessThan(0.82)
    expect(kept[0]).toBeCloseTo((3 * 400) / kept.length, 3)
    const still = [
      ...adapter.weight!(base as never, state, context(false, 1))
        .apply(ones([1, 3]))
        .dataSync(),
    ]
    expect(still.every((v) => Math.abs(v - 3) < 1e-6)).toBe(true)
    const module = loha({ rank: 1, alpha: 1, moduleDropout: 0.5 })
    const sums = Array.from({ length: 40 }, (_, i) =>
      Math.max(
        ...module.weight!(base as never, state, context(true, i))
          .apply(ones([1, 3]))
          .dataSync(),
      ),
    )
    expect(new Set(sums.map((v) => Math.round(v)))).toEqual(new Set([0, 3]))
  })

  it('has ranks and α by patterns', () => {
    const adapter = loha({ rank: 2, alpha: 2, rankPattern: { 'attn\\.k': 3 }, alphaPattern: { 'mlp\\.up': 8 } })
    const tuned = attach(network, [{ adapter, at: ['**.k', '**.up'] }], rng(0))
    expect(tuned.params['blocks.0.attn.k.loha.x1']!.shape).toEqual([8, 3])
    expect(tuned.params['blocks.0.mlp.up.loha.x1']!.shape).toEqual([24, 2])
    expect(
      rowsOf(tuned.params['blocks.0.mlp.up.loha.y2']!)
        .flat()
        .every((v) => v === 0),
    ).toBe(true)
  })

  it('refuses a rank above the matrix, and chances that are none', () => {
    expect(() => attach(network, [{ adapter: loha({ rank: 9 }), at: '**.k' }], rng(0))).toThrow(
      'blocks.0.attn.k: rank 9 exceeds min(8, 16)',
    )
    expect(() => loha({ rankDropout: -0.1 })).toThrow('loha: rankDropout must be in [0, 1), found -0.1')
    expect(() => loha({ alpha: Number.NaN })).toThrow('loha: alpha must be a number, found NaN')
  })
})
