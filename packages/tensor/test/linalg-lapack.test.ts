import fc from 'fast-check'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import {
  cholesky,
  dropLapack,
  eigh,
  gram,
  gramSvd,
  lu,
  type Matrix,
  matrix,
  multiply,
  qr,
  svd,
  transpose,
  useLapack,
} from '../src/linalg/index.ts'
import { SYMBOLS } from '../src/linalg/lapack.ts'
import { routines } from '../src/linalg/routines.ts'
import { findNative } from '../src/native.ts'
import { anyMatrix, EPS, expectOrthonormal, gap, lowRank, norm, random } from './linalg-matrices.ts'

// a library that is there but refused by its trial is a failure here, no reason to skip
const library = await findNative({ needs: SYMBOLS })
const reason = 'missing' in library ? library.missing.slice(0, 90) : undefined

/** the same call with the system's LAPACK and without */
const both = <T>(run: () => T): [native: T, ours: T] => {
  const ours = run()
  Object.assign(routines, bound)
  try {
    return [run(), ours]
  } finally {
    dropLapack()
  }
}
const probe = await useLapack()
const bound = { ...routines }
dropLapack()
afterAll(dropLapack)

const times = (u: Matrix, s: ArrayLike<number>, v: Matrix): Matrix =>
  multiply(
    matrix(
      u.rows,
      u.cols,
      u.data.map((x, i) => x * s[i % u.cols]!),
    ),
    transpose(v),
  )

describe.skipIf(reason)(`the system's LAPACK${reason ? ` (skipped: ${reason})` : ''}`, () => {
  it('says what it found', () => {
    expect(probe).toMatchObject({
      path: expect.any(String),
      kind: expect.stringMatching(/openblas|accelerate|mkl|blis|lapack/),
    })
    expect(Object.keys(bound).sort()).toEqual(['cholesky', 'eigh', 'gram', 'lu', 'multiply', 'qr', 'svd'])
  })
  it('svd: the same values, and factors that hold', () =>
    fc.assert(
      fc.property(anyMatrix(), (a) => {
        const [native, ours] = both(() => svd(a))
        native.s.forEach((s, i) => {
          expect(Math.abs(s - ours.s[i]!)).toBeLessThanOrEqual(100 * EPS * ours.s[0]! + 2 ** -1070)
        })
        expectOrthonormal(native.u, 14)
        expectOrthonormal(native.v, 14)
        expect(gap(a, times(native.u, native.s, native.v))).toBeLessThan(300 * EPS)
      }),
      { numRuns: 200 },
    ))
  it('qr: factors that hold, and the same ones where A has full rank', () => {
    fc.assert(
      fc.property(anyMatrix(), (a) => {
        const [{ q, r }] = both(() => qr(a))
        expectOrthonormal(q, 14)
        expect(gap(a, multiply(q, r))).toBeLessThan(200 * EPS)
      }),
      { numRuns: 200 },
    )
    for (const a of [random(30, 12), random(12, 12)]) {
      const [native, ours] = both(() => qr(a))
      expect(gap(ours.q, native.q)).toBeLessThan(1e-12)
      expect(gap(ours.r, native.r)).toBeLessThan(1e-12)
    }
  })
  it('eigh', () => {
    for (const a of [random(20, 20), lowRank(20, 20, 4), matrix(5, 5)]) {
      const even = matrix(
        a.rows,
        a.rows,
        a.data.map((v, i) => v + transpose(a).data[i]!),
      )
      const [native, ours] = both(() => eigh(even))
      native.values.forEach((v, i) => {
        expect(Math.abs(v - ours.values[i]!)).toBeLessThanOrEqual(1e-13 * norm(even))
      })
      expectOrthonormal(native.vectors)
      expect(gap(even, times(native.vectors, native.values, native.vectors))).toBeLessThan(1e-13)
    }
  })
  it('cholesky and lu: the same factors, the same error', () => {
    const a = random(25, 30)
    const gram = multiply(a, transpose(a))
    const [l, ourL] = both(() => cholesky(gram))
    expect(gap(ourL, l)).toBeLessThan(1e-12)
    expect(() => both(() => cholesky(matrix(3, 3)))).toThrow('pivot 0 of 3')
    for (const square of [random(25, 25), lowRank(9, 9, 2), matrix(3, 3)]) {
      const [native, ours] = both(() => lu(square))
      expect(native.permutation).toHaveLength(square.rows)
      if (square.rows !== 25) continue
      expect([...native.permutation]).toEqual([...ours.permutation])
      expect(native.sign).toBe(ours.sign)
      expect(gap(ours.packed, native.packed)).toBeLessThan(1e-12)
    }
  })
  it('gram, and an SVD by it', () => {
    for (const a of [random(40, 60), random(60, 40)])
      for (const of of ['columns', 'rows'] as const) {
        const [native, ours] = both(() => gram(a, of))
        expect(gap(ours, native)).toBeLessThan(1e-13)
      }
    for (const a of [random(60, 25), random(25, 60)]) {
      const [native, ours] = both(() => gramSvd(a))
      native.s.forEach((s, i) => {
        expect(Math.abs(s - ours.s[i]!)).toBeLessThan(1e-12 * ours.s[0]!)
      })
      expect(gap(a, times(native.u, native.s, native.v))).toBeLessThan(300 * EPS)
    }
  })
  it('multiply, and 400x300 svd', () => {
    const [a, b] = [random(40, 60), random(60, 33)]
    const [native, ours] = both(() => multiply(a, b))
    expect(gap(ours, native)).toBeLessThan(1e-13)
    Object.assign(routines, bound)
    const big = random(400, 300)
    const { u, s, v } = svd(big)
    dropLapack()
    expect(gap(big, times(u, s, v))).toBeLessThan(300 * 20 * EPS)
  })
})

describe('without one', () => {
  afterEach(() => {
    vi.unstubAllEnvs()
    dropLapack()
  })
  it('WEFT_BLAS=off is obeyed', async () => {
    vi.stubEnv('WEFT_BLAS', 'off')
    expect(await useLapack()).toEqual({ missing: 'switched off by WEFT_BLAS=off' })
    expect(Object.keys(routines)).toEqual([])
    expect(svd(matrix(1, 1, [2])).s[0]).toBe(2)
  })
  it('a path that is no library gives the reason and the remedy', async () => {
    vi.stubEnv('WEFT_BLAS', '/nowhere/libnothing.so')
    const found = await useLapack()
    expect(found).toMatchObject({ missing: expect.stringMatching(/WEFT_BLAS must be "off" or the path.*libnothing/) })
    expect(Object.keys(routines)).toEqual([])
  })
  it('a file that is not a library does not end the process', async () => {
    vi.stubEnv('WEFT_BLAS', new URL(import.meta.url).pathname)
    expect(await useLapack()).toMatchObject({ missing: expect.stringContaining('cannot be loaded') })
  })
  it('symbols that no library has are named', async () => {
    vi.stubEnv('WEFT_BLAS', undefined)
    const found = await findNative({ needs: ['weft_has_no_such_symbol'] })
    expect(found).toMatchObject({ missing: expect.stringContaining('weft_has_no_such_symbol') })
  })
})
