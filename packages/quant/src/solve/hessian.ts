import { cholesky, matrix } from '@weftjs/tensor/linalg'

/** X = L⁻¹, both lower triangular: four rows at a time, by four rows that are done, so that each is read a fourth as often */
const lowerInverse = (l: Float64Array, n: number): Float64Array => {
  const x = new Float64Array(n * n)
  for (let first = 0; first < n; first += 4) {
    const rows = Math.min(4, n - first)
    for (let j = 0; rows === 4 && j < first; j += 4) fourByFour(l, x, n, first, j)
    for (let i = first; i < first + rows; i++) {
      const at = i * n
      for (let j = rows === 4 ? first : 0; j < i; j++) {
        const f = l[at + j]!
        for (let k = 0; k <= j; k++) x[at + k]! -= f * x[j * n + k]!
      }
      const pivot = 1 / l[at + i]!
      for (let k = 0; k < i; k++) x[at + k]! *= pivot
      x[at + i] = pivot
    }
  }
  return x
}
/** rows [i, i + 4) of X −= L[i:i+4, j:j+4]·(rows [j, j + 4) of X) */
const fourByFour = (l: Float64Array, x: Float64Array, n: number, i: number, j: number): void => {
  const [a, b, c, d] = [i * n, (i + 1) * n, (i + 2) * n, (i + 3) * n]
  const [p, q, r, s] = [j * n, (j + 1) * n, (j + 2) * n, (j + 3) * n]
  const [a0, a1, a2, a3] = [l[a + j]!, l[a + j + 1]!, l[a + j + 2]!, l[a + j + 3]!]
  const [b0, b1, b2, b3] = [l[b + j]!, l[b + j + 1]!, l[b + j + 2]!, l[b + j + 3]!]
  const [c0, c1, c2, c3] = [l[c + j]!, l[c + j + 1]!, l[c + j + 2]!, l[c + j + 3]!]
  const [d0, d1, d2, d3] = [l[d + j]!, l[d + j + 1]!, l[d + j + 2]!, l[d + j + 3]!]
  for (let k = 0; k <= j + 3; k++) {
    const [x0, x1, x2, x3] = [x[p + k]!, x[q + k]!, x[r + k]!, x[s + k]!]
    x[a + k]! -= a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
    x[b + k]! -= b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
    x[c + k]! -= c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
    x[d + k]! -= d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3
  }
}

/** H in the order of the columns turned round, over the mean of its diagonal: near 1, so that nothing is too small or too large to be squared */
export interface Statistics {
  readonly n: number
  /** a[i·n + j] for j ≤ i; the rest is left */
  fill(a: Float64Array): void
}
/** inputs that are always 0 count as 1, and not in the mean */
export const statistics = (h: ArrayLike<number>, n: number, order: Int32Array, dead: Uint8Array): Statistics => {
  let [sum, live] = [0, 0]
  for (let i = 0; i < n; i++)
    if (!dead[i]) {
      sum += h[i * n + i]!
      live++
    }
  const mean = live ? sum / live : 1
  const turned = order.slice().reverse()
  return {
    n,
    fill: (a) => {
      for (let i = 0; i < n; i++) {
        const row = turned[i]! * n
        for (let j = 0; j <= i; j++) a[i * n + j] = h[row + turned[j]!]! / mean
        if (dead[turned[i]!]) a[i * n + i] = 1
      }
    },
  }
}

/** what `f` makes of the share of the mean diagonal that is added, which grows until there is something. @throws Error where that is hopeless */
export const damped = <T>(n: number, damp: number, f: (share: number) => T | undefined): T => {
  for (let share = damp; ; share = Math.max(2 * share, 0.01)) {
    const found = f(share)
    if (found !== undefined) return found
    if (share >= 0.5)
      throw new Error(
        `gptq: E[x·xᵀ] [${n}, ${n}] is not positive definite, even with ${share.toPrecision(2)} of its mean diagonal added; calibrate with more text, or look for what spoils its activations`,
      )
  }
}

/** L of A + share·I by `cholesky`; undefined where there is none */
export const lower = (stats: Statistics, share: number): Float64Array | undefined => {
  const { n } = stats
  const a = new Float64Array(n * n)
  stats.fill(a)
  for (let i = 0; i < n; i++) a[i * n + i]! += share
  try {
    return cholesky(matrix(n, n, a)).data
  } catch (error) {
    if (/positive definite/.test((error as Error).message)) return undefined
    throw error
  }
}

/**
 * U upper triangular with UᵀU = (H + damp·mean·I)⁻¹, its columns in the order given. With J the reversal, JHJ = LLᵀ and
 * U = J·L⁻¹·J: one factorization, and H is never inverted.
 */
export const inverseFactor = (stats: Statistics, damp: number): Float64Array => {
  const { n } = stats
  const l = damped(n, damp, (share) => lower(stats, share))
  return lowerInverse(l, n).reverse() // J·X·J
}
