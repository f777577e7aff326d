import { routines } from './routines.ts'

/** A dense matrix of doubles, row by row: entry [i, j] is `data[i * cols + j]`. */
export interface Matrix {
  readonly rows: number
  readonly cols: number
  readonly data: Float64Array
}

/** [rows, cols] over `data`, which is not copied; zeros without it. Throws where the length does not fit. */
export const matrix = (rows: number, cols: number, data?: ArrayLike<number>): Matrix => {
  if (!Number.isInteger(rows) || !Number.isInteger(cols) || rows < 0 || cols < 0)
    throw new Error(`matrix: [${rows}, ${cols}] is no shape; give whole numbers from 0`)
  if (data && data.length !== rows * cols)
    throw new Error(`matrix: ${data.length} numbers do not fill [${rows}, ${cols}]; give ${rows * cols}`)
  return {
    rows,
    cols,
    data: data instanceof Float64Array ? data : data ? new Float64Array(data) : new Float64Array(rows * cols),
  }
}

/** Iₙ */
export const identity = (n: number): Matrix => {
  const out = matrix(n, n)
  for (let i = 0; i < n; i++) out.data[i * n + i] = 1
  return out
}

/** Aᵀ */
export const transpose = ({ rows, cols, data }: Matrix): Matrix => {
  const out = new Float64Array(rows * cols)
  const tile = 32
  for (let i0 = 0; i0 < rows; i0 += tile)
    for (let j0 = 0; j0 < cols; j0 += tile) {
      const i1 = Math.min(i0 + tile, rows)
      const j1 = Math.min(j0 + tile, cols)
      for (let i = i0; i < i1; i++) for (let j = j0; j < j1; j++) out[j * rows + i] = data[i * cols + j]!
    }
  return { rows: cols, cols: rows, data: out }
}

/** The first `count` columns. */
export const leadingColumns = ({ rows, cols, data }: Matrix, count: number): Matrix => {
  const out = new Float64Array(rows * count)
  for (let i = 0; i < rows; i++) out.set(data.subarray(i * cols, i * cols + count), i * count)
  return { rows, cols: count, data: out }
}

/** A·diag(s): column j times s[j] */
export const scaleColumns = ({ rows, cols, data }: Matrix, s: ArrayLike<number>): Matrix => {
  const out = new Float64Array(rows * cols)
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) out[i * cols + j] = data[i * cols + j]! * s[j]!
  return { rows, cols, data: out }
}

/** A·B, four rows of B at a time, so that a row of the product is read and written once for four products. */
export const multiply = (a: Matrix, b: Matrix): Matrix => {
  if (a.cols !== b.rows)
    throw new Error(
      `multiply: [${a.rows}, ${a.cols}] · [${b.rows}, ${b.cols}] do not fit; the inner sizes must be equal`,
    )
  const native = routines.multiply?.(a, b)
  if (native) return native
  const { rows, cols: inner } = a
  const { cols } = b
  const [x, y, out] = [a.data, b.data, new Float64Array(rows * cols)]
  const tile = 64
  for (let k0 = 0; k0 < inner; k0 += tile) {
    const k1 = Math.min(k0 + tile, inner)
    for (let i = 0; i < rows; i++) {
      const at = i * cols
      let k = k0
      for (; k + 3 < k1; k += 4) {
        const p = i * inner + k
        const [x0, x1, x2, x3] = [x[p]!, x[p + 1]!, x[p + 2]!, x[p + 3]!]
        const [r0, r1, r2, r3] = [k * cols, (k + 1) * cols, (k + 2) * cols, (k + 3) * cols]
        for (let j = 0; j < cols; j++)
          out[at + j]! += x0 * y[r0 + j]! + x1 * y[r1 + j]! + x2 * y[r2 + j]! + x3 * y[r3 + j]!
      }
      for (; k < k1; k++) {
        const x0 = x[i * inner + k]!
        for (let j = 0; j < cols; j++) out[at + j]! += x0 * y[k * cols + j]!
      }
    }
  }
  return { rows, cols, data: out }
}

/** AᵀA [n, n] of the columns of A [m, n], or AAᵀ [m, m] of its rows */
export const gram = (a: Matrix, of: 'columns' | 'rows' = 'columns'): Matrix =>
  routines.gram?.(a, of) ?? (of === 'columns' ? multiply(transpose(a), a) : multiply(a, transpose(a)))

/** maxᵢⱼ |aᵢⱼ|, 0 for an empty matrix */
export const maxAbs = ({ data }: Matrix): number => {
  let top = 0
  for (let i = 0; i < data.length; i++) {
    const v = Math.abs(data[i]!)
    if (v > top) top = v
  }
  return top
}

/** Refuses NaN and infinities, naming the first. */
export const requireFinite = (where: string, { cols, data }: Matrix): void => {
  for (let i = 0; i < data.length; i++)
    if (!Number.isFinite(data[i]!))
      throw new Error(
        `${where}: entry [${Math.floor(i / cols)}, ${i % cols}] is ${data[i]}; find where it comes from, or replace it before`,
      )
}

export const requireSquare = (where: string, { rows, cols }: Matrix): void => {
  if (rows !== cols) throw new Error(`${where}: [${rows}, ${cols}] is not square; give [n, n]`)
}

/** A copy times a power of two that brings its largest entry near 1 (exact), and the factor that undoes it. */
export const balanced = (a: Matrix): { data: Float64Array; undo: number } => {
  const top = maxAbs(a)
  const exponent = top > 0 ? Math.max(-1000, Math.min(1000, Math.floor(Math.log2(top)))) : 0
  const factor = 2 ** -exponent
  return { data: exponent === 0 ? a.data.slice() : a.data.map((v) => v * factor), undo: 2 ** exponent }
}
