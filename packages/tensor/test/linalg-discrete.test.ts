import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { assign, fwht, hadamard, type Matrix, matrix, multiply, transpose } from '../src/linalg/index.ts'
import { random } from './linalg-matrices.ts'

describe('hadamard', () => {
  it.each([1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 44, 48, 60, 64, 72, 76, 96, 144, 256, 576])(
    'order %i: HHᵀ = nI, all ±1',
    (n) => {
      const h = hadamard(n)
      expect(h.data.every((v) => v === 1 || v === -1)).toBe(true)
      const product = multiply(h, transpose(h))
      expect(product.data.every((v, at) => v === (at % n === Math.floor(at / n) ? n : 0))).toBe(true)
    },
  )
  it.each([0, -4, 3, 6, 10, 2.5, 92])('refuses order %f', (n) => {
    expect(() => hadamard(n)).toThrow(`no matrix of order ${n} is known here; use blocks`)
  })
})

describe('fwht', () => {
  it('is the product with hadamard(size), run by run', () =>
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 1, max: 4 }), fc.nat(), (log, runs, seed) => {
        const size = 2 ** log
        const x = random(runs, size, seed)
        const want = multiply(x, hadamard(size))
        const got = fwht(x.data, { size })
        got.forEach((v, i) => {
          expect(v).toBeCloseTo(want.data[i]!, 12)
        })
        fwht(fwht(x.data, { size, orthonormal: true }), { size, orthonormal: true }).forEach((v, i) => {
          expect(v).toBeCloseTo(x.data[i]!, 13)
        })
      }),
    ))
  it('keeps zero, its argument, and refuses other lengths', () => {
    const x = new Float64Array(8)
    expect([...fwht(x)]).toEqual(Array(8).fill(0))
    x[0] = 1
    expect([...fwht(x)]).toEqual(Array(8).fill(1))
    expect(x[1]).toBe(0)
    expect(() => fwht(new Float64Array(6))).toThrow('runs of 6 in 6 numbers')
    expect(() => fwht(new Float64Array(6), { size: 4 })).toThrow('runs of 4 in 6 numbers')
    expect(() => fwht(new Float64Array(0))).toThrow('runs of 0')
  })
})

/** the least total over all assignments, by trying them all */
const least = (cost: Matrix): number => {
  const { rows, cols, data } = cost.rows <= cost.cols ? cost : transpose(cost)
  const go = (row: number, used: number): number => {
    if (row === rows) return 0
    let best = Number.POSITIVE_INFINITY
    for (let j = 0; j < cols; j++)
      if (!(used & (1 << j))) best = Math.min(best, data[row * cols + j]! + go(row + 1, used | (1 << j)))
    return best
  }
  return go(0, 0)
}
const total = (cost: Matrix, columns: Int32Array): number =>
  columns.reduce((sum, j, i) => (j < 0 ? sum : sum + cost.data[i * cost.cols + j]!), 0)

describe('assign', () => {
  const costs = (value: fc.Arbitrary<number>): fc.Arbitrary<Matrix> =>
    fc
      .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 }))
      .chain(([m, n]) => fc.array(value, { minLength: m * n, maxLength: m * n }).map((data) => matrix(m, n, data)))

  it('is as cheap as the cheapest of all, on any shape, with ties, negative costs and forbidden pairs', () =>
    fc.assert(
      fc.property(
        fc.oneof(
          costs(fc.integer({ min: -3, max: 3 })),
          costs(fc.double({ min: -1e6, max: 1e6, noNaN: true })),
          costs(
            fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 0, max: 9 }) }, fc.constant(Number.POSITIVE_INFINITY)),
          ),
        ),
        (cost) => {
          const want = least(cost)
          if (want === Number.POSITIVE_INFINITY) {
            expect(() => assign(cost)).toThrow('forbidden')
            return
          }
          const columns = assign(cost)
          expect(columns).toHaveLength(cost.rows)
          const used = [...columns].filter((j) => j >= 0)
          expect(used).toHaveLength(Math.min(cost.rows, cost.cols))
          expect(new Set(used).size).toBe(used.length)
          expect(Math.abs(total(cost, columns) - want)).toBeLessThanOrEqual(1e-9 * (1 + Math.abs(want)))
        },
      ),
      { numRuns: 500 },
    ))
  it('finds a hidden permutation of 120', () => {
    const n = 120
    const cost = random(n, n, 4)
    const hidden = Array.from({ length: n }, (_, i) => (i * 7 + 3) % n)
    hidden.forEach((j, i) => {
      cost.data[i * n + j]! -= 5
    })
    expect([...assign(cost)]).toEqual(hidden)
  })
  it('maximize is the cheapest of the negated', () =>
    fc.assert(
      fc.property(costs(fc.integer({ min: -9, max: 9 })), (gain) => {
        const negated = matrix(
          gain.rows,
          gain.cols,
          gain.data.map((v) => -v),
        )
        expect(total(gain, assign(gain, { maximize: true })) + least(negated)).toBe(0)
      }),
    ))
  it('zero costs, no rows, and what it refuses', () => {
    expect(new Set(assign(matrix(5, 5))).size).toBe(5)
    expect(assign(matrix(0, 3))).toHaveLength(0)
    expect([...assign(matrix(2, 0))]).toEqual([-1, -1])
    expect(() => assign(matrix(1, 2, [0, Number.NaN]))).toThrow('cost [0, 1] is NaN')
    expect(() => assign(matrix(1, 1, [Number.NEGATIVE_INFINITY]))).toThrow('cost [0, 0] is -Infinity')
  })
})
