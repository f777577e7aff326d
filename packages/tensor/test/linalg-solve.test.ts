import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  cholesky,
  choleskySolve,
  determinant,
  identity,
  inverse,
  lstsq,
  lu,
  luSolve,
  type Matrix,
  matrix,
  multiply,
  solve,
  solveTriangular,
  svd,
  transpose,
} from '../src/linalg/index.ts'
import { anyMatrix, diagonal, gap, hilbert, lowRank, norm, random, scaled, spectrum } from './linalg-matrices.ts'

const gram = (a: Matrix): Matrix => multiply(a, transpose(a))
const minus = (a: Matrix, b: Matrix): Matrix =>
  matrix(
    a.rows,
    a.cols,
    a.data.map((v, i) => v - b.data[i]!),
  )
const sizes = fc.integer({ min: 1, max: 12 })

describe('matrix', () => {
  it('refuses numbers that do not fill the shape, and sizes that do not fit', () => {
    expect(() => matrix(2, 3, [1, 2])).toThrow('2 numbers do not fill [2, 3]; give 6')
    expect(() => matrix(-1, 3)).toThrow('[-1, 3] is no shape')
    expect(() => multiply(random(2, 3), random(2, 3))).toThrow('[2, 3] · [2, 3] do not fit')
  })
  it('multiply is the sum of products, for every remainder of its tiles', () =>
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 140 }), sizes, fc.nat(), (m, k, n, seed) => {
        const [a, b] = [random(m, k, seed), random(k, n, seed + 1)]
        const want = matrix(m, n)
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++)
            for (let l = 0; l < k; l++) want.data[i * n + j]! += a.data[i * k + l]! * b.data[l * n + j]!
        expect(norm(minus(multiply(a, b), want))).toBeLessThan(1e-13 * k)
      }),
    ))
  it('transpose turns [i, j] to [j, i]', () => {
    const a = random(37, 70)
    const t = transpose(a)
    expect([t.rows, t.cols, t.data[5 * 37 + 3]]).toEqual([70, 37, a.data[3 * 70 + 5]])
    expect(transpose(t)).toEqual(a)
  })
})

describe('solveTriangular', () => {
  it('solves all eight forms', () =>
    fc.assert(
      fc.property(
        sizes,
        sizes,
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        fc.nat(),
        (n, k, upper, transposed, unit, seed) => {
          const full = random(n, n, seed)
          const t = matrix(
            n,
            n,
            full.data.map((v, at) => {
              const [i, j] = [Math.floor(at / n), at % n]
              return i === j ? (unit ? 1 : 2 + v) : i < j === upper ? v / n : 0
            }),
          )
          // what the routine must not read is spoilt
          const given = matrix(
            n,
            n,
            t.data.map((v, at) => {
              const [i, j] = [Math.floor(at / n), at % n]
              return i === j ? (unit ? Number.NaN : v) : i < j === upper ? v : Number.NaN
            }),
          )
          const x = random(n, k, seed + 1)
          const b = multiply(transposed ? transpose(t) : t, x)
          expect(gap(x, solveTriangular(given, b, { upper, transposed, unit }))).toBeLessThan(1e-12)
        },
      ),
    ))
  it('names a zero pivot', () => {
    expect(() => solveTriangular(diagonal(3, 3, [1, 0, 2]), random(3, 1))).toThrow('pivot 1 of 3 is 0')
    expect(() => solveTriangular(identity(3), random(2, 1))).toThrow('b needs 3 rows')
  })
})

describe('cholesky', () => {
  it('A = LLᵀ, L lower with a positive diagonal', () =>
    fc.assert(
      fc.property(sizes, fc.nat(), fc.constantFrom(1, 2 ** -500, 2 ** 500), (n, seed, scale) => {
        const a = scaled(gram(random(n, n + 3, seed)), scale)
        const l = cholesky(a)
        expect(gap(a, multiply(l, transpose(l)))).toBeLessThan(1e-14 * (n + 3))
        l.data.forEach((v, at) => {
          const [i, j] = [Math.floor(at / n), at % n]
          if (i === j) expect(v).toBeGreaterThan(0)
          else if (i < j) expect(v).toBe(0)
        })
        const x = random(n, 2, seed + 1)
        const residual = gap(multiply(a, x), multiply(a, choleskySolve(l, multiply(a, x))))
        expect(residual).toBeLessThan(1e-12)
      }),
    ))
  it('names the pivot and the remedy on zero, rank-deficient and indefinite matrices', () => {
    expect(() => cholesky(matrix(3, 3))).toThrow('pivot 0 of 3 is 0.00')
    expect(() => cholesky(diagonal(4, 4, [1, 2, -3, 4]))).toThrow(
      /cholesky: pivot 2 of 4 is -3\.00, so .* not positive definite; raise jitter \(now 0;/,
    )
    expect(() => cholesky(matrix(3, 3, [1, 1, 1, 1, 1, 1, 1, 1, 1]))).toThrow('pivot 1 of 3')
    expect(() => cholesky(random(2, 3))).toThrow('cholesky: [2, 3] is not square')
    expect(() => cholesky(matrix(1, 1, [Number.NaN]))).toThrow('entry [0, 0] is NaN')
  })
  it('jitter, a part of the mean diagonal, makes a rank-deficient matrix pass', () => {
    const a = gram(lowRank(12, 12, 3))
    const l = cholesky(a, { jitter: 0.01 })
    const mean = a.data.filter((_, i) => i % 13 === 0).reduce((s, v) => s + v / 12, 0)
    const want = minus(a, scaled(identity(12), -0.01 * mean))
    expect(gap(want, multiply(l, transpose(l)))).toBeLessThan(1e-14)
  })
  it('reads the lower half and leaves its argument as it was', () => {
    const a = gram(random(5, 8))
    const lower = matrix(
      5,
      5,
      a.data.map((v, at) => (at % 5 > Math.floor(at / 5) ? 99 : v)),
    )
    const before = lower.data.slice()
    expect(cholesky(lower)).toEqual(cholesky(a))
    expect(lower.data).toEqual(before)
  })
})

describe('lu', () => {
  const parts = (a: Matrix): void => {
    const n = a.rows
    const { packed, permutation, sign } = lu(a)
    expect([...permutation].sort((i, j) => i - j)).toEqual(Array.from({ length: n }, (_, i) => i))
    expect(Math.abs(sign)).toBe(1)
    const l = matrix(
      n,
      n,
      packed.data.map((v, at) => (at % n < Math.floor(at / n) ? v : at % n === Math.floor(at / n) ? 1 : 0)),
    )
    const u = matrix(
      n,
      n,
      packed.data.map((v, at) => (at % n >= Math.floor(at / n) ? v : 0)),
    )
    for (const v of l.data) expect(Math.abs(v)).toBeLessThanOrEqual(1)
    const permuted = matrix(n, n)
    permutation.forEach((from, to) => {
      permuted.data.set(a.data.subarray(from * n, (from + 1) * n), to * n)
    })
    expect(gap(permuted, multiply(l, u))).toBeLessThan(1e-13)
  }
  it('PA = LU with multipliers of at most 1, for any square matrix', () =>
    fc.assert(
      fc.property(anyMatrix(), (a) => {
        const n = Math.min(a.rows, a.cols)
        // subnormal quotients cannot keep their digits
        if (norm(a) > 1e-290) parts(matrix(n, n, a.data.slice(0, n * n)))
      }),
      { numRuns: 200 },
    ))
  it('solves, inverts', () =>
    fc.assert(
      fc.property(sizes, sizes, fc.nat(), (n, k, seed) => {
        const a = spectrum(
          n,
          n,
          Array.from({ length: n }, (_, i) => 1 + i),
          seed,
        )
        const x = random(n, k, seed)
        expect(gap(x, solve(a, multiply(a, x)))).toBeLessThan(1e-12)
        expect(gap(identity(n), multiply(a, inverse(a)))).toBeLessThan(1e-12)
      }),
    ))
  it('solves a Hilbert matrix with a small residual', () => {
    const a = hilbert(12)
    const b = multiply(a, random(12, 1))
    expect(norm(minus(multiply(a, solve(a, b)), b))).toBeLessThan(1e-13)
  })
  it('says that a singular matrix is singular', () => {
    expect(() => inverse(matrix(3, 3))).toThrow(/pivot \d of 3 is 0: the matrix is singular; use lstsq/)
    expect(() => solve(matrix(2, 2, [1, 2, 2, 4]), random(2, 1))).toThrow('singular')
    expect(() => luSolve(lu(identity(2)), random(3, 1))).toThrow('b needs 2 rows')
    expect(() => lu(random(2, 3))).toThrow('lu: [2, 3] is not square')
    expect(() => lu(matrix(1, 1, [Number.NaN]))).toThrow('entry [0, 0] is NaN')
  })
  it('determinant: known ones, of products, of zero and rank-deficient matrices', () => {
    expect(determinant(matrix(3, 3, [0, 1, 0, 0, 0, 1, 1, 0, 0]))).toBe(1)
    expect(determinant(matrix(2, 2, [0, 1, 1, 0]))).toBe(-1)
    expect(determinant(matrix(3, 3, [2, -1, 0, -1, 2, -1, 0, -1, 2]))).toBeCloseTo(4, 13)
    expect(determinant(matrix(4, 4))).toBe(0)
    expect(determinant(matrix(0, 0))).toBe(1)
    expect(Math.abs(determinant(lowRank(6, 6, 3)))).toBeLessThan(1e-30)
    const [a, b] = [random(6, 6, 1), random(6, 6, 2)]
    expect(determinant(multiply(a, b))).toBeCloseTo(determinant(a) * determinant(b), 12)
  })
})

describe('lstsq', () => {
  const check = (a: Matrix, b: Matrix): void => {
    const { x, rank } = lstsq(a, b)
    expect([x.rows, x.cols]).toEqual([a.cols, b.cols])
    // the residual is orthogonal to A's columns, and x lies in the span of A's rows
    const residual = minus(multiply(a, x), b)
    expect(norm(multiply(transpose(a), residual))).toBeLessThan(1e-11 * (1 + norm(a) * norm(x)))
    const { v } = svd(a)
    const beyond = matrix(a.cols, v.cols - rank)
    for (let i = 0; i < a.cols; i++)
      for (let j = rank; j < v.cols; j++) beyond.data[i * beyond.cols + j - rank] = v.data[i * v.cols + j]!
    expect(norm(multiply(transpose(beyond), x))).toBeLessThan(1e-11 * (1 + norm(x)))
  }
  it('tall, wide, rank-deficient and zero matrices', () =>
    fc.assert(
      fc.property(sizes, sizes, fc.integer({ min: 0, max: 12 }), sizes, fc.nat(), (m, n, rank, k, seed) => {
        const most = Math.min(m, n, rank)
        const a = spectrum(
          m,
          n,
          Array.from({ length: most }, (_, i) => 1 + i),
          seed,
        )
        check(a, random(m, k, seed + 9))
        expect(lstsq(a, random(m, k, seed)).rank).toBe(most)
      }),
    ))
  it('finds a line through points, and the shortest of many solutions', () => {
    const t = [0, 1, 2, 3]
    const a = matrix(
      4,
      2,
      t.flatMap((v) => [1, v]),
    )
    const { x } = lstsq(a, matrix(4, 1, [1, 3, 5, 7]))
    expect(x.data[0]).toBeCloseTo(1, 13)
    expect(x.data[1]).toBeCloseTo(2, 13)
    const { x: short } = lstsq(matrix(1, 2, [1, 1]), matrix(1, 1, [2]))
    short.data.forEach((v) => {
      expect(v).toBeCloseTo(1, 14)
    })
    expect([...lstsq(matrix(3, 2), random(3, 1)).x.data]).toEqual([0, 0])
  })
  it('rcond leaves out small directions', () => {
    const a = diagonal(3, 3, [1, 1e-3, 1e-9])
    const b = matrix(3, 1, [1, 1, 1])
    expect(lstsq(a, b).rank).toBe(3)
    expect(lstsq(a, b, { rcond: 1e-6 }).rank).toBe(2)
    expect(lstsq(a, b, { rcond: 1e-6 }).x.data[2]).toBe(0)
  })
  it('refuses what does not fit, and NaN', () => {
    expect(() => lstsq(random(3, 2), random(4, 1))).toThrow('[3, 2] and [4, 1] do not fit')
    expect(() => lstsq(random(1, 1), matrix(1, 1, [Number.NaN]))).toThrow('lstsq: entry [0, 0] is NaN')
  })
})
