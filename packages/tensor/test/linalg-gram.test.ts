import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { gram, gramSvd, type Matrix, multiply, scaleColumns, svd, transpose } from '../src/linalg/index.ts'
import {
  anyMatrix,
  diagonal,
  EPS,
  expectOrthonormal,
  gap,
  lowRank,
  random,
  scaled,
  spectrum,
} from './linalg-matrices.ts'

/** the same as `svd` to single precision, and a decomposition of A to double precision */
const expectBoth = (a: Matrix): void => {
  const [found, want] = [gramSvd(a), svd(a)]
  expect([found.u.rows, found.u.cols, found.v.rows, found.v.cols]).toEqual([
    ...[want.u.rows, want.u.cols, want.v.rows, want.v.cols],
  ])
  const { u, s, v } = found
  for (let i = 0; i < s.length; i++) {
    expect(Math.abs(s[i]! - want.s[i]!)).toBeLessThanOrEqual(1e-9 * want.s[0]!)
    if (i > 0) expect(s[i]).toBeLessThanOrEqual(s[i - 1]!)
  }
  expect(gap(a, multiply(scaleColumns(u, s), transpose(v)))).toBeLessThan(20 * EPS * Math.max(a.rows, a.cols))
  for (const m of [u, v]) {
    const gram = multiply(transpose(m), m)
    expect(gap(diagonal(m.cols, m.cols, Array(m.cols).fill(1)), gram)).toBeLessThan(1e-6)
  }
}

describe('gramSvd', () => {
  it.each<[string, Matrix]>([
    ['tall', random(60, 25)],
    ['wide', random(25, 60)],
    ['square', random(40, 40)],
    ['of values that fall to 10⁻⁴ of the first', spectrum(12, 9, [1, 0.5, 0.5, 0.1, 0.01, 1e-3, 1e-3, 2e-4, 1e-4])],
    ['of values that fall to 10⁻⁷ of the first', spectrum(9, 5, [1, 0.5, 1e-3, 1e-6, 1e-7])],
    ['of rank 3', lowRank(20, 12, 3)],
    ['huge', scaled(random(12, 8), 2 ** 1020)],
    ['tiny', scaled(random(8, 12), 2 ** -1000)],
    ['zero', diagonal(4, 3, [])],
    ['a row', random(1, 7)],
  ])('is the SVD of a matrix that is %s', (_, a) => expectBoth(a))

  it('is the SVD of any', () => fc.assert(fc.property(anyMatrix(), expectBoth), { numRuns: 200 }))

  it('is orthogonal to double precision where the values are near each other', () => {
    const { u, v } = gramSvd(spectrum(20, 12, [3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0.5]))
    expectOrthonormal(u, 200)
    expectOrthonormal(v, 20)
  })

  it('refuses what is not a number', () => {
    const a = random(3, 3)
    a.data[4] = Number.NaN
    expect(() => gramSvd(a)).toThrow('gramSvd: entry [1, 1] is NaN')
  })
})

it('gram is the product of a matrix with itself, either way', () => {
  for (const [m, n] of [
    [30, 20],
    [5, 40],
    [1, 1],
  ] as const) {
    const a = random(m, n)
    expect(gap(multiply(transpose(a), a), gram(a))).toBeLessThan(1e-14)
    expect(gap(multiply(a, transpose(a)), gram(a, 'rows'))).toBeLessThan(1e-14)
  }
})
