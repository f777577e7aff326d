import fc from 'fast-check'
import { expect } from 'vitest'
import { type Matrix, matrix, multiply, transpose } from '../src/linalg/index.ts'
import { rng } from '../src/rng.ts'

export const EPS = 2 ** -52

/** uniform in [-1, 1) */
export const random = (rows: number, cols: number, seed = 0): Matrix =>
  matrix(
    rows,
    cols,
    rng(seed)
      .numbers(rows * cols)
      .map((v) => 2 * v - 1),
  )
export const scaled = (a: Matrix, factor: number): Matrix =>
  matrix(
    a.rows,
    a.cols,
    a.data.map((v) => v * factor),
  )
export const lowRank = (rows: number, cols: number, rank: number, seed = 0): Matrix =>
  rank === 0 ? matrix(rows, cols) : multiply(random(rows, rank, seed), random(rank, cols, seed + 1))
export const diagonal = (rows: number, cols: number, values: readonly number[]): Matrix => {
  const out = matrix(rows, cols)
  values.forEach((v, i) => {
    out.data[i * cols + i] = v
  })
  return out
}
export const hilbert = (n: number): Matrix =>
  matrix(
    n,
    n,
    Array.from({ length: n * n }, (_, at) => 1 / (Math.floor(at / n) + (at % n) + 1)),
  )
/** an orthogonal matrix that no code under test made: a product of plane rotations */
export const rotation = (n: number, seed = 0): Matrix => {
  const out = diagonal(n, n, Array(n).fill(1))
  const angles = rng(seed).numbers(3 * n)
  for (let k = 0; k < 3 * n && n > 1; k++) {
    const i = k % n
    const j = (i + 1 + (k % (n - 1))) % n
    const [c, s] = [Math.cos(6.28 * angles[k]!), Math.sin(6.28 * angles[k]!)]
    for (let col = 0; col < n; col++) {
      const [x, y] = [out.data[i * n + col]!, out.data[j * n + col]!]
      out.data[i * n + col] = c * x + s * y
      out.data[j * n + col] = c * y - s * x
    }
  }
  return out
}
/** U·diag(values)·Vᵀ with known singular values */
export const spectrum = (rows: number, cols: number, values: readonly number[], seed = 0): Matrix =>
  multiply(multiply(rotation(rows, seed), diagonal(rows, cols, values)), transpose(rotation(cols, seed + 1)))

/** any shape and rank, and scales from subnormal to near overflow */
export const anyMatrix = (most = 14): fc.Arbitrary<Matrix> =>
  fc
    .record({
      rows: fc.integer({ min: 1, max: most }),
      cols: fc.integer({ min: 1, max: most }),
      rank: fc.integer({ min: 0, max: most }),
      kind: fc.constantFrom('random', 'low rank', 'repeated', 'graded', 'integers', 'sparse'),
      exponent: fc.constantFrom(0, 0, 0, -1030, -600, 600, 1015),
      seed: fc.nat(),
    })
    .map(({ rows, cols, rank, kind, exponent, seed }) => {
      const k = Math.min(rows, cols)
      const base =
        kind === 'random'
          ? random(rows, cols, seed)
          : kind === 'low rank'
            ? lowRank(rows, cols, Math.min(rank, k), seed)
            : kind === 'repeated'
              ? spectrum(
                  rows,
                  cols,
                  Array.from({ length: k }, (_, i) => (i < rank ? 2 : 1)),
                  seed,
                )
              : kind === 'graded'
                ? spectrum(
                    rows,
                    cols,
                    Array.from({ length: k }, (_, i) => 10 ** (-3 * i)),
                    seed,
                  )
                : kind === 'integers'
                  ? matrix(
                      rows,
                      cols,
                      random(rows, cols, seed).data.map((v) => Math.round(2 * v)),
                    )
                  : matrix(
                      rows,
                      cols,
                      random(rows, cols, seed).data.map((v) => (Math.abs(v) < 0.7 ? 0 : v)),
                    )
      return scaled(base, 2 ** exponent)
    })

const top = (a: Matrix): number => a.data.reduce((t, v) => Math.max(t, Math.abs(v)), 0)
/** ‖A‖ of a matrix that was brought near 1 first, so that no square overflows or vanishes */
export const norm = (a: Matrix): number => {
  const t = top(a)
  return t === 0 ? 0 : t * Math.sqrt(a.data.reduce((sum, v) => sum + (v / t) ** 2, 0))
}
/** ‖A − B‖ / ‖A‖; 0 where both are zero. One subnormal step counts as nothing. */
export const gap = (a: Matrix, b: Matrix): number => {
  expect([b.rows, b.cols]).toEqual([a.rows, a.cols])
  const d = norm(
    matrix(
      a.rows,
      a.cols,
      a.data.map((v, i) => (Math.abs(v - b.data[i]!) <= 2 ** -1070 ? 0 : v - b.data[i]!)),
    ),
  )
  return d === 0 ? 0 : d / norm(a)
}
/** QᵀQ = I to rounding */
export const expectOrthonormal = (q: Matrix, n = Math.max(q.rows, q.cols)): void => {
  const eye = diagonal(q.cols, q.cols, Array(q.cols).fill(1))
  expect(
    norm(
      matrix(
        q.cols,
        q.cols,
        multiply(transpose(q), q).data.map((v, i) => v - eye.data[i]!),
      ),
    ),
  ).toBeLessThan(20 * EPS * n * Math.sqrt(q.cols + 1))
}
