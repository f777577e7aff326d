import { tidy } from '@weftjs/tensor'
import type { Matrix } from '@weftjs/tensor/linalg'
import { type Additive, type AdditiveShape, eachGroup, eachRow, placeOf, rebuilt } from './additive.ts'
import { search } from './beam.ts'
import { kMeans } from './kmeans.ts'
import { onHeap } from './normal-heap.ts'
import { product } from './product.ts'

export interface SolveOptions {
  /** H = E[x·xᵀ] [in, in] of what the layer reads; the identity where absent */
  readonly moment?: Matrix | undefined
  /** codes that the search keeps in mind */
  readonly beam: number
  /** turns of code books and codes */
  readonly rounds: number
  /** steps of conjugate gradients on the code books in each */
  readonly steps: number
  /** 2^bits numbers in [0, 1) for each code book */
  readonly draws: readonly ArrayLike<number>[]
  /** what the numbers of the code books and scales are rounded to in their format */
  readonly roundBook: (v: number) => number
  readonly roundScale: (v: number) => number
}

/** V·H */
const seenBy = (v: Float64Array, { out, input }: AdditiveShape, h: Matrix | undefined): Float64Array =>
  h ? product({ rows: out, cols: input, data: v }, h).data : v

const dot = (a: Float64Array, b: Float64Array): number => {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}
/** a − b, in place of b */
const less = (a: Float64Array, b: Float64Array): Float64Array => {
  for (let i = 0; i < a.length; i++) b[i] = a[i]! - b[i]!
  return b
}

/** tr(E·H·Eᵀ) of E = W − Ŵ */
export const lossOf = (w: Float64Array, shape: AdditiveShape, found: Additive, h: Matrix | undefined): number => {
  const gap = less(w, rebuilt(shape, found))
  return dot(gap, seenBy(gap, shape, h))
}

/** scales of row groups: their norms, so that what the code books hold is of one size; 0 for rows of zeros */
const normsOf = (w: Float64Array, { out, input, outGroup }: AdditiveShape): Float64Array => {
  const size = outGroup * input
  return Float64Array.from({ length: out / outGroup }, (_, o) => rootOf(w, o * size, size))
}
const rootOf = (w: Float64Array, from: number, n: number): number => {
  let most = 0
  for (let i = from; i < from + n; i++) most = Math.max(most, Math.abs(w[i]!))
  if (!most) return 0
  let sum = 0
  for (let i = from; i < from + n; i++) sum += (w[i]! / most) ** 2
  return most * Math.sqrt(sum)
}

/** residual k-means: each code book on what those before it leave, each square weighted by what it adds to the loss */
const start = (w: Float64Array, shape: AdditiveShape, { moment, draws }: SolveOptions): Additive => {
  const { out, input, codebooks, bits, group, outGroup } = shape
  const [d, k] = [group * outGroup, 2 ** bits]
  const scales = normsOf(w, shape)
  const top = scales.reduce((a, b) => Math.max(a, b), 0) || 1
  const n = (out * input) / d
  const x = new Float64Array(n * d)
  const weights = new Float64Array(n * d)
  eachGroup(shape, (o, j, code) => {
    const at = (code / codebooks) * d
    for (let t = 0; t < d; t++) {
      const column = j * group + (t % group)
      if (scales[o]) x[at + t] = w[placeOf(shape, o, j, t)]! / scales[o]!
      weights[at + t] = (scales[o]! / top) ** 2 * (moment ? moment.data[column * (input + 1)]! : 1)
    }
  })
  const codes = new Int32Array(n * codebooks)
  const books = new Float64Array(codebooks * k * d)
  for (let c = 0; c < codebooks; c++) {
    const { centers, nearest } = kMeans(x, { k, d, weights, draws: draws[c]! })
    books.set(centers, c * k * d)
    for (let i = 0; i < n; i++) {
      codes[i * codebooks + c] = nearest[i]!
      for (let t = 0; t < d; t++) x[i * d + t]! -= centers[nearest[i]! * d + t]!
    }
  }
  return { codes, books, scales }
}

/** what code books read of a matrix [out·in]: the adjoint of `rebuilt` */
const gathered = (v: Float64Array, shape: AdditiveShape, { codes, scales }: Additive): Float64Array => {
  const { codebooks, bits, group, outGroup } = shape
  const [size, d] = [2 ** bits, group * outGroup]
  const sums = new Float64Array(codebooks * size * d)
  eachRow(shape, (o, code, row, at) => {
    const s = scales[o]!
    for (let c = 0; c < codebooks; c++) {
      const to = (c * size + codes[code + c]!) * d + row
      for (let t = 0; t < group; t++) sums[to + t]! += s * v[at + t]!
    }
  })
  return sums
}

/** least squares in the code books for the codes and scales as they are, by conjugate gradients with a diagonal preconditioner */
const fitBooks = (
  w: Float64Array,
  shape: AdditiveShape,
  found: Additive,
  h: Matrix | undefined,
  steps: number,
): void => {
  tidy(() => {
    found.books = fitted(w, shape, found, h, steps)
    return []
  })
}

const fitted = (
  w: Float64Array,
  shape: AdditiveShape,
  found: Additive,
  h: Matrix | undefined,
  steps: number,
): Float64Array => {
  const of = (books: Float64Array): Float64Array => rebuilt(shape, { ...found, books })
  const back = (v: Float64Array): Float64Array => gathered(seenBy(v, shape, h), shape, found)
  const apply = onHeap(shape, found, h) ?? ((p: Float64Array): Float64Array => back(of(p)))
  const { out, input } = shape
  const sizes = new Float64Array(out * input)
  for (let i = 0; i < sizes.length; i++) sizes[i] = h ? h.data[(i % input) * (input + 1)]! : 1
  const squared = { ...found, scales: found.scales.map((s) => s * s) }
  const diagonal = gathered(sizes, shape, squared)
  const eased = (r: Float64Array): Float64Array => r.map((v, i) => (diagonal[i]! > 0 ? v / diagonal[i]! : 0))
  const books = found.books.slice()
  const r = back(less(w, of(books)))
  let z = eased(r)
  const p = z.slice()
  let rz = dot(r, z)
  const enough = 1e-12 * rz
  for (let i = 0; i < steps && rz > enough; i++) {
    const q = apply(p)
    const curve = dot(p, q)
    if (!(curve > 0)) break
    const step = rz / curve
    for (let t = 0; t < books.length; t++) {
      books[t]! += step * p[t]!
      r[t]! -= step * q[t]!
    }
    z = eased(r)
    const next = dot(r, z)
    const turn = next / rz
    for (let t = 0; t < p.length; t++) p[t] = z[t]! + turn * p[t]!
    rz = next
  }
  return books
}

/** the best scale of each row group for the rest as it is */
const fitScales = (w: Float64Array, shape: AdditiveShape, found: Additive, h: Matrix | undefined): void => {
  const size = shape.outGroup * shape.input
  const u = rebuilt(shape, { ...found, scales: found.scales.map(() => 1) })
  const uh = seenBy(u, shape, h)
  found.scales = found.scales.map((s, o) => {
    let [wu, uu] = [0, 0]
    for (let i = o * size; i < (o + 1) * size; i++) {
      wu += w[i]! * uh[i]!
      uu += u[i]! * uh[i]!
    }
    return s && uu > 0 && Number.isFinite(wu / uu) ? wu / uu : s
  })
}

/**
 * Codes, code books and scales that make tr((W − Ŵ)·H·(W − Ŵ)ᵀ) small: from residual k-means, in turn the code books and
 * scales by least squares and the codes by beam search, as Egiazarian et al., arXiv:2401.06118 (whose code takes a hundred
 * steps of Adam for the least squares). w [out·in] row by row.
 */
export const solveAdditive = (w: Float64Array, shape: AdditiveShape, options: SolveOptions): Additive => {
  const { moment: h, beam, rounds, steps, roundBook, roundScale } = options
  const found = start(w, shape, options)
  let before = Number.POSITIVE_INFINITY
  for (let i = 0; i < rounds; i++) {
    fitBooks(w, shape, found, h, steps)
    fitScales(w, shape, found, h)
    found.codes = search(w, shape, found, { moment: h, beam })
    const now = lossOf(w, shape, found, h)
    if (!(now < before * 0.999)) break
    before = now
  }
  fitBooks(w, shape, found, h, steps)
  found.books = found.books.map(roundBook)
  fitScales(w, shape, found, h)
  found.scales = found.scales.map(roundScale)
  found.codes = search(w, shape, found, { moment: h, beam })
  return found
}
