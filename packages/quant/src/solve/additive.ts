/** out×in weights in groups of `outGroup` rows by `group` columns, each a sum of `codebooks` vectors out of 2^bits. */
export interface AdditiveShape {
  readonly out: number
  readonly input: number
  readonly codebooks: number
  readonly bits: number
  readonly group: number
  readonly outGroup: number
}
/** W of a group = scale of its rows · Σ_c books[c][code c] */
export interface Additive {
  /** [out/outGroup, in/group, codebooks] */
  codes: Int32Array
  /** [codebooks, 2^bits, outGroup·group] */
  books: Float64Array
  /** [out/outGroup] */
  scales: Float64Array
}
/** number t of the vector of (row group o, column group j) in a matrix [out, in] */
export const placeOf = ({ input, group, outGroup }: AdditiveShape, o: number, j: number, t: number): number =>
  (o * outGroup + Math.floor(t / group)) * input + j * group + (t % group)

/** calls f for each group with where its codes begin */
export const eachGroup = (
  { out, input, group, outGroup, codebooks }: AdditiveShape,
  f: (o: number, j: number, code: number) => void,
): void => {
  for (let o = 0, code = 0; o < out / outGroup; o++)
    for (let j = 0; j < input / group; j++, code += codebooks) f(o, j, code)
}

/** calls f for each row of each group: with where its codes begin, where its numbers begin in a vector, and in a matrix [out, in] */
export const eachRow = (
  { out, input, group, outGroup, codebooks }: AdditiveShape,
  f: (o: number, code: number, row: number, at: number) => void,
): void => {
  const own = (input / group) * codebooks
  for (let i = 0, at = 0; i < out; i++) {
    const o = Math.floor(i / outGroup)
    const row = (i % outGroup) * group
    for (let j = 0, code = o * own; j < input; j += group, code += codebooks, at += group) f(o, code, row, at)
  }
}

/** W [out·in] of codes, books and scales */
export const rebuilt = (shape: AdditiveShape, { codes, books, scales }: Additive): Float64Array => {
  const { out, input, codebooks, bits, group, outGroup } = shape
  const [size, d] = [2 ** bits, group * outGroup]
  const w = new Float64Array(out * input)
  eachRow(shape, (o, code, row, to) => {
    const s = scales[o]!
    for (let c = 0; c < codebooks; c++) {
      const at = (c * size + codes[code + c]!) * d + row
      for (let t = 0; t < group; t++) w[to + t]! += s * books[at + t]!
    }
  })
  return w
}
