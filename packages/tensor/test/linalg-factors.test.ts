import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { eigh, type Matrix, matrix, multiply, qr, randomizedSvd, svd, transpose } from '../src/linalg/index.ts'
import { rng } from '../src/rng.ts'
import {
  anyMatrix,
  diagonal,
  EPS,
  expectOrthonormal,
  gap,
  hilbert,
  lowRank,
  random,
  rotation,
  scaled,
  spectrum,
} from './linalg-matrices.ts'

const times = (u: Matrix, s: ArrayLike<number>, v: Matrix): Matrix =>
  multiply(
    matrix(
      u.rows,
      u.cols,
      u.data.map((x, i) => x * s[i % u.cols]!),
    ),
    transpose(v),
  )

const expectSvd = (a: Matrix): void => {
  const { u, s, v } = svd(a)
  const [m, n, k] = [a.rows, a.cols, Math.min(a.rows, a.cols)]
  expect([u.rows, u.cols, s.length, v.rows, v.cols]).toEqual([m, k, k, n, k])
  expectOrthonormal(u, Math.max(m, n))
  expectOrthonormal(v, Math.max(m, n))
  for (let i = 0; i < k; i++) {
    expect(s[i]).toBeGreaterThanOrEqual(0)
    if (i > 0) expect(s[i]).toBeLessThanOrEqual(s[i - 1]!)
  }
  expect(gap(a, times(u, s, v))).toBeLessThan(20 * EPS * Math.max(m, n))
}

const expectQr = (a: Matrix): void => {
  const { q, r } = qr(a)
  const k = Math.min(a.rows, a.cols)
  expect([q.rows, q.cols, r.rows, r.cols]).toEqual([a.rows, k, k, a.cols])
  expectOrthonormal(q, Math.max(a.rows, a.cols))
  for (let i = 0; i < k; i++) {
    expect(r.data[i * r.cols + i]).toBeGreaterThanOrEqual(0)
    for (let j = 0; j < i; j++) expect(r.data[i * r.cols + j]).toBe(0)
  }
  expect(gap(a, multiply(q, r))).toBeLessThan(10 * EPS * Math.max(a.rows, a.cols))
}

const expectEigh = (a: Matrix): void => {
  const { values, vectors } = eigh(a)
  expectOrthonormal(vectors)
  for (let i = 1; i < values.length; i++) expect(values[i]).toBeGreaterThanOrEqual(values[i - 1]!)
  expect(gap(a, times(vectors, values, vectors))).toBeLessThan(20 * EPS * a.rows)
}

/** A + Aᵀ, halves first so that nothing overflows */
const symmetric = (a: Matrix): Matrix => {
  const n = Math.min(a.rows, a.cols)
  const out = matrix(n, n)
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) out.data[i * n + j] = a.data[i * a.cols + j]! / 2 + a.data[j * a.cols + i]! / 2
  return out
}

const KINDS: Record<string, Matrix> = {
  'a 40x25': random(40, 25),
  'a wide 25x40': random(25, 40),
  'a very tall 90x7': random(90, 7),
  'a row': random(1, 9),
  'a column': random(9, 1),
  'one number': matrix(1, 1, [-3]),
  'one zero': matrix(1, 1),
  'zero 6x4': matrix(6, 4),
  'zero 4x6': matrix(4, 6),
  'rank 3 of 30x20': lowRank(30, 20, 3),
  'rank 1 of 20x20': lowRank(20, 20, 1),
  identity: diagonal(17, 17, Array(17).fill(1)),
  'repeated values': spectrum(20, 12, [3, 3, 3, 2, 2, 2, 2, 1, 1, 0, 0, 0]),
  'Hilbert 25': hilbert(25),
  huge: scaled(random(12, 12), 2 ** 1020),
  tiny: scaled(random(12, 12), 2 ** -1000),
  subnormal: scaled(random(6, 6), 2 ** -1040),
  'a zero column': matrix(
    5,
    3,
    random(5, 3).data.map((v, i) => (i % 3 === 1 ? 0 : v)),
  ),
  'zeros on a bidiagonal': matrix(4, 4, [1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0]),
  'a nilpotent shift': matrix(
    5,
    5,
    Array.from({ length: 25 }, (_, i) => (i % 6 === 1 ? 1 : 0)),
  ),
}

describe.each(Object.entries(KINDS))('%s', (_, a) => {
  it('svd', () => expectSvd(a))
  it('qr', () => expectQr(a))
  it('eigh', () => expectEigh(symmetric(a)))
})

describe('any matrix', () => {
  it('svd', () => fc.assert(fc.property(anyMatrix(), expectSvd), { numRuns: 300 }))
  it('qr', () => fc.assert(fc.property(anyMatrix(), expectQr), { numRuns: 300 }))
  it('eigh', () => fc.assert(fc.property(anyMatrix().map(symmetric), expectEigh), { numRuns: 300 }))
  it('qr of full rank is unique: R of QR is R', () =>
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10 }), fc.nat(), (n, seed) => {
        const r = qr(random(n + 4, n, seed)).r
        const again = qr(multiply(rotation(n, seed), r)).r
        expect(gap(r, again)).toBeLessThan(1e-13)
      }),
    ))
})

describe('svd', () => {
  it('finds known values', () => {
    const want = [1000, 10, 10, 1e-3, 1e-9, 0]
    svd(spectrum(9, 6, want)).s.forEach((s, i) => {
      expect(Math.abs(s - want[i]!)).toBeLessThan(1000 * 40 * EPS)
    })
    const [p, q] = svd(matrix(2, 2, [3, 0, 4, 5])).s
    expect(p).toBeCloseTo(Math.sqrt(45), 13)
    expect(q).toBeCloseTo(Math.sqrt(5), 13)
  })
  it('sees the rank', () => {
    const { s } = svd(lowRank(30, 22, 5))
    expect([...s].filter((v) => v > 1e-12 * s[0]!)).toHaveLength(5)
  })
  it('values of Aᵀ, of a rotated A and of eigh(AᵀA) are those of A', () => {
    const a = random(13, 8, 5)
    const { s } = svd(a)
    const others = [
      svd(transpose(a)).s,
      svd(multiply(rotation(13), a)).s,
      eigh(multiply(transpose(a), a))
        .values.map(Math.sqrt)
        .reverse(),
    ]
    for (const other of others)
      other.forEach((v, i) => {
        expect(v).toBeCloseTo(s[i]!, 12)
      })
  })
  it('leaves its argument as it was', () => {
    const a = random(7, 5)
    const before = a.data.slice()
    svd(a)
    qr(a)
    expect(a.data).toEqual(before)
  })
  it('takes empty matrices', () => {
    expect(svd(matrix(0, 3)).s).toHaveLength(0)
    expect(svd(matrix(3, 0)).u).toMatchObject({ rows: 3, cols: 0 })
    expect(qr(matrix(3, 0)).r).toMatchObject({ rows: 0, cols: 0 })
    expect(eigh(matrix(0, 0)).values).toHaveLength(0)
  })
  it('factors 256x256', () => expectSvd(random(256, 256)))
})

describe('eigh', () => {
  it('finds known values', () => {
    const q = rotation(6, 3)
    const want = [-50, -1, 0, 0, 1e-6, 7]
    eigh(multiply(multiply(q, diagonal(6, 6, want)), transpose(q))).values.forEach((v, i) => {
      expect(Math.abs(v - want[i]!)).toBeLessThan(50 * 30 * EPS)
    })
    expect([...eigh(matrix(2, 2, [2, 1, 1, 2])).values].map((v) => Math.round(v * 1e12) / 1e12)).toEqual([1, 3])
  })
  it('takes single-precision asymmetry, and refuses more', () => {
    const a = symmetric(random(6, 6))
    expectEigh(a)
    a.data[1]! *= 1 + 1e-7
    expect(() => eigh(a)).not.toThrow()
    a.data[1]! += 0.1
    expect(() => eigh(a)).toThrow(/eigh: \[1, 0\] is .* but \[0, 1\] is .*symmetric/)
    expect(() => eigh(random(3, 4))).toThrow('eigh: [3, 4] is not square')
  })
})

describe('randomizedSvd', () => {
  it('is exact on a matrix of that rank', () => {
    const a = lowRank(80, 60, 4, 9)
    const { u, s, v } = randomizedSvd(a, 4, { rng: rng(1) })
    expect([u.rows, u.cols, s.length, v.rows, v.cols]).toEqual([80, 4, 4, 60, 4])
    expectOrthonormal(u)
    expectOrthonormal(v)
    expect(gap(a, times(u, s, v))).toBeLessThan(1e-13)
  })
  it.each([0, 1, 2, 3])('comes within a tenth of the best rank-6 error on a slow spectrum, seed %i', (seed) => {
    const values = Array.from({ length: 50 }, (_, i) => 1 / (1 + i))
    const a = spectrum(90, 50, values, seed)
    const best = Math.hypot(...values.slice(6)) / Math.hypot(...values)
    const { u, s, v } = randomizedSvd(a, 6, { rng: rng(seed) })
    expect(gap(a, times(u, s, v))).toBeLessThan(1.1 * best)
    expect(gap(a, times(u, s, v))).toBeGreaterThan(best * (1 - 1e-9))
  })
  it('takes zero matrices and wide ones, falls back to svd for a rank near full, repeats under a seed', () => {
    expect([...randomizedSvd(matrix(50, 60), 3, { rng: rng(0) }).s]).toEqual([0, 0, 0])
    const wide = lowRank(40, 70, 2)
    expect(randomizedSvd(wide, 2, { rng: rng(0) })).toEqual(randomizedSvd(wide, 2, { rng: rng(0) }))
    const small = random(8, 6)
    expect(randomizedSvd(small, 6, { rng: rng(0) })).toEqual(svd(small))
  })
  it('refuses a rank above the matrix', () => {
    expect(() => randomizedSvd(random(3, 5), 4, { rng: rng(0) })).toThrow('rank 4 is not in 0..min(3, 5) = 3; lower it')
  })
})

describe('NaN and infinities', () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY])('%s is refused by its place', (bad) => {
    const a = random(4, 4)
    a.data[2 * 4 + 3] = bad
    for (const run of [svd, qr, eigh, (m: Matrix) => randomizedSvd(m, 1, { rng: rng(0) })])
      expect(() => run(a)).toThrow(`entry [2, 3] is ${bad}`)
  })
})
