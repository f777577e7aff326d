/**
 * H = I − τvvᵀ with Hx = (β, 0, …): turns x[from..to) into v, scaled so that v is 1 at `from`; gives [τ, β].
 * τ = 0 where x is zero from its second entry on: H = I. — Golub & Van Loan, Matrix Computations, 5.1.
 */
export const reflector = (x: Float64Array, from: number, to: number): [tau: number, beta: number] => {
  const alpha = x[from]!
  let top = 0
  for (let i = from + 1; i < to; i++) top = Math.max(top, Math.abs(x[i]!))
  x[from] = 1
  if (top < 1e-290) {
    x.fill(0, from + 1, to)
    return [0, alpha]
  }
  top = Math.max(top, Math.abs(alpha))
  let sum = (alpha / top) ** 2
  for (let i = from + 1; i < to; i++) sum += (x[i]! / top) ** 2
  const beta = alpha > 0 ? -top * Math.sqrt(sum) : top * Math.sqrt(sum)
  const pivot = alpha - beta
  for (let i = from + 1; i < to; i++) x[i]! /= pivot
  return [-pivot / beta, beta]
}

/** x·y over [from, to) of rows that start at `p` and `q` */
export const dot = (x: Float64Array, p: number, y: Float64Array, q: number, from: number, to: number): number => {
  let [s0, s1, s2, s3] = [0, 0, 0, 0]
  let i = from
  for (; i + 3 < to; i += 4) {
    s0 += x[p + i]! * y[q + i]!
    s1 += x[p + i + 1]! * y[q + i + 1]!
    s2 += x[p + i + 2]! * y[q + i + 2]!
    s3 += x[p + i + 3]! * y[q + i + 3]!
  }
  for (; i < to; i++) s0 += x[p + i]! * y[q + i]!
  return s0 + s1 + (s2 + s3)
}

/** x += f·y over [from, to) of rows that start at `p` and `q` */
export const axpy = (
  f: number,
  y: Float64Array,
  q: number,
  x: Float64Array,
  p: number,
  from: number,
  to: number,
): void => {
  for (let i = from; i < to; i++) x[p + i]! += f * y[q + i]!
}

/** w += vᵀA over rows and columns [from, ...): four rows at a time, so that w is read and written once for four */
export const addRows = (
  v: Float64Array,
  a: Float64Array,
  rows: number,
  cols: number,
  w: Float64Array,
  fromRow: number,
  fromCol: number,
): void => {
  let i = fromRow
  for (; i + 3 < rows; i += 4) {
    const [v0, v1, v2, v3] = [v[i]!, v[i + 1]!, v[i + 2]!, v[i + 3]!]
    const [r0, r1, r2, r3] = [i * cols, (i + 1) * cols, (i + 2) * cols, (i + 3) * cols]
    for (let j = fromCol; j < cols; j++) w[j]! += v0 * a[r0 + j]! + v1 * a[r1 + j]! + v2 * a[r2 + j]! + v3 * a[r3 + j]!
  }
  for (; i < rows; i++) axpy(v[i]!, a, i * cols, w, 0, fromCol, cols)
}

/**
 * Rows of (H₀H₁…H_{k−1}E)ᵀ, E the first k columns of I: `vectors` [k, n] holds one v per row, zero before `first(i)`.
 * Row by row, so that memory is read in order.
 */
export const accumulate = (
  vectors: Float64Array,
  taus: Float64Array,
  k: number,
  n: number,
  offset = 0,
): Float64Array => {
  const out = new Float64Array(k * n)
  for (let i = 0; i < k; i++) out[i * n + i] = 1
  for (let i = k - 1 - offset; i >= 0; i--) {
    const tau = taus[i]!
    if (tau === 0) continue
    const first = i + offset
    for (let j = first; j < k; j++) {
      const f = tau * dot(out, j * n, vectors, i * n, first, n)
      if (f !== 0) axpy(-f, vectors, i * n, out, j * n, first, n)
    }
  }
  return out
}

/** (x, y) ← (cx + sy, cy − sx) for two rows of length n that start at `p` and `q` */
export const rotate = (data: Float64Array, p: number, q: number, n: number, c: number, s: number): void => {
  for (let i = 0; i < n; i++) {
    const x = data[p + i]!
    const y = data[q + i]!
    data[p + i] = c * x + s * y
    data[q + i] = c * y - s * x
  }
}
