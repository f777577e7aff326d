import { attach } from '@weftjs/model'
import { rng } from '@weftjs/tensor'
import { matrix, qr } from '@weftjs/tensor/linalg'
import { describe, expect, it } from 'vitest'
import { hra } from '../src/hra.ts'
import { apart, network, one, plus, type Rows, times, turn, unit } from './one.ts'

const mirror = (u: readonly number[]): Rows => {
  const size = u.reduce((s, v) => s + v * v, 0)
  return plus(
    unit(u.length),
    u.map((a) => u.map((b) => a * b)),
    -2 / size,
  )
}

describe('hra', () => {
  it.each([1, 3, 8])('rank %i: is W·H₁⋯Hᵣ in their order', (rank) => {
    const { state, w, after } = one(hra({ rank }))
    expect(
      apart(
        after,
        turn(state('u')).reduce((m, u) => times(m, mirror(u)), w),
      ),
    ).toBeLessThan(2e-5)
  })

  it('leaves the products of rows as they are', () => {
    const { w, after } = one(hra({ rank: 6 }))
    expect(apart(times(after, turn(after)), times(w, turn(w)))).toBeLessThan(2e-5)
  })

  it('orthogonal: is W·(I − 2·QQᵀ), Q the columns of u made orthogonal', () => {
    const { state, w, after } = one(hra({ rank: 3, orthogonal: true }))
    const u = state('u')
    const { q } = qr(matrix(16, 3, u.flat()))
    const columns = Array.from({ length: 16 }, (_, i) => [...q.data.slice(i * 3, i * 3 + 3)])
    const reflected = plus(unit(16), times(columns, turn(columns)), -2)
    expect(apart(after, times(w, reflected))).toBeLessThan(2e-5)
  })

  it('starts in equal pairs, and as W', () => {
    const { tuned } = one(hra({ rank: 4 }))
    const u = tuned.params['blocks.0.mlp.up.hra.u']!.arraySync() as number[][]
    for (const row of u) expect([row[0], row[2]]).toEqual([row[1], row[3]])
    expect(u.some((row) => row[0] !== row[2])).toBe(true)
  })

  it('refuses a rank above the matrix', () => {
    expect(() => attach(network, [{ adapter: hra({ rank: 10 }), at: '**.k' }], rng(0))).toThrow(
      'blocks.0.attn.k: rank 10 exceeds min(8, 16)',
    )
    expect(() => one(hra({ rank: 0 }))).toThrow('blocks.0.mlp.up: rank must be a whole number of at least 1, found 0')
  })
})
