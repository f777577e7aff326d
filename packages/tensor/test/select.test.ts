import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { largestOf, rng, sampleOf } from '../src/index.ts'

describe('largestOf', () => {
  it('gives the places of the largest, in order, and of equal numbers the first', () => {
    expect([...largestOf([3, 1, 3, 2, 3], 2)]).toEqual([0, 2])
    expect([...largestOf([0, Number.NaN, -5, 0], 3)]).toEqual([0, 2, 3])
    expect([...largestOf([1, 2], 5)]).toEqual([0, 1])
    expect([...largestOf([1, 2], 0)]).toEqual([])
  })

  it('does as a sort does', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 1, maxLength: 60 }), fc.nat(60), (v, k) => {
        const sorted = v.map((s, i) => [s, i] as const).sort(([a, i], [b, j]) => b - a || i - j)
        const want = sorted.slice(0, k).map(([, i]) => i)
        expect([...largestOf(v, k)]).toEqual(want.sort((a, b) => a - b))
      }),
    )
  })
})

describe('few of many', () => {
  it('are those of a sort as well, of rising, falling and equal numbers, NaN and infinities', () => {
    const odd = fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY)
    const number = fc.oneof({ weight: 30, arbitrary: fc.integer({ min: -40, max: 40 }) }, { weight: 1, arbitrary: odd })
    const order = fc.constantFrom('drawn', 'rising', 'falling')
    const many = fc.array(number, { minLength: 150, maxLength: 500 })
    fc.assert(
      fc.property(many, fc.integer({ min: 1, max: 12 }), order, (drawn, k, how) => {
        const least = (s: number): number => (Number.isNaN(s) ? Number.NEGATIVE_INFINITY : s)
        const v =
          how === 'drawn' ? drawn : drawn.sort((a, b) => (least(a) < least(b) ? -1 : 1) * (how === 'rising' ? 1 : -1))
        const sorted = v.map((s, i) => [least(s), i] as const).sort(([a, i], [b, j]) => (a === b ? i - j : b - a))
        const want = sorted.slice(0, k).map(([, i]) => i)
        expect([...largestOf(v, k)]).toEqual(want.sort((a, b) => a - b))
      }),
    )
  })
})

describe('sampleOf', () => {
  it('gives different numbers in order, each as often as any other', () => {
    const seen = new Float64Array(10)
    for (let seed = 0; seed < 3000; seed++) {
      const found = [...sampleOf(rng(seed), 10, 3)]
      expect(new Set(found).size).toBe(3)
      expect(found).toEqual(found.slice().sort((a, b) => a - b))
      for (const i of found) seen[i]!++
    }
    // 900 expected, standard deviation 25
    for (const n of seen) expect(Math.abs(n - 900)).toBeLessThan(125)
  })

  it('takes all of them, none of them, and no more', () => {
    expect([...sampleOf(rng(1), 4, 4)]).toEqual([0, 1, 2, 3])
    expect([...sampleOf(rng(1), 4, 0)]).toEqual([])
    expect(() => sampleOf(rng(1), 4, 5)).toThrow('5 different numbers below 4')
  })
})
