import { type Matrix, multiply } from '@weftjs/tensor/linalg'
import { type Additive, type AdditiveShape, placeOf, rebuilt } from './additive.ts'
import { onHeap } from './beam-heap.ts'

export interface SearchOptions {
  readonly moment?: Matrix | undefined
  readonly beam: number
}
/** One guess for all row groups, which are searched side by side. */
interface Guess {
  /** W − Ŵ [out·in] */
  readonly gap: Float64Array
  readonly codes: Int32Array
  /** what each row group has gained on where it began */
  readonly loss: Float64Array
  /** (W − Ŵ)·H at the columns of the group at hand, [row groups · d] */
  readonly pull: Float64Array
}
const copyOf = ({ gap, codes, loss, pull }: Guess): Guess => ({
  gap: gap.slice(),
  codes: codes.slice(),
  loss: loss.slice(),
  pull: pull.slice(),
})

/** the `beam` least of numbers that come one by one, least first */
const leastOf = (beam: number): { put: (v: number, id: number) => void; ids: number[]; values: number[] } => {
  const [ids, values] = [[] as number[], [] as number[]]
  const put = (v: number, id: number): void => {
    if (values.length === beam && !(v < values[beam - 1]!)) return
    let at = values.length
    while (at > 0 && v < values[at - 1]!) at--
    values.splice(at, 0, v)
    ids.splice(at, 0, id)
    if (values.length > beam) {
      values.pop()
      ids.pop()
    }
  }
  return { put, ids, values }
}

/**
 * New codes for the code books and scales as they are, none of which raises tr((W − Ŵ)·H·(W − Ŵ)ᵀ): code by code along
 * the columns, with the `beam` best guesses of each row group in mind. Without H groups are independent, and so are their beams.
 * On the wasm heap, in threads over row groups, where there is one.
 */
export const search = (w: Float64Array, shape: AdditiveShape, found: Additive, options: SearchOptions): Int32Array => {
  const now = rebuilt(shape, found)
  const gap = new Float64Array(w.length)
  for (let i = 0; i < w.length; i++) gap[i] = w[i]! - now[i]!
  return onHeap(gap, shape, found, options) ?? plain(gap, shape, found, options)
}

const plain = (
  gap: Float64Array,
  shape: AdditiveShape,
  found: Additive,
  { moment, beam }: SearchOptions,
): Int32Array => {
  const { out, input, codebooks, bits, group, outGroup } = shape
  const { books, scales } = found
  const [d, k, heights, columns] = [group * outGroup, 2 ** bits, out / outGroup, input / group]
  const first: Guess = {
    gap,
    codes: found.codes.slice(),
    loss: new Float64Array(heights),
    pull: new Float64Array(heights * d),
  }
  let guesses = [first]
  /** H at the columns of a group */
  const local = new Float64Array(group * group)
  const norms = new Float64Array(codebooks * k)
  /** v·H for a vector of d numbers at `at`, row by row of the group, to `to` times `factor`, added */
  const through = (v: Float64Array, at: number, factor: number, to: Float64Array, place: number): void => {
    for (let r = 0; r < d; r += group)
      for (let a = 0; a < group; a++) {
        const x = factor * v[at + r + a]!
        if (x) for (let b = 0; b < group; b++) to[place + r + b]! += x * local[a * group + b]!
      }
  }
  const aimed = new Float64Array(d)
  for (let j = 0; j < columns; j++) {
    for (let a = 0; a < group; a++)
      for (let b = 0; b < group; b++)
        local[a * group + b] = moment ? moment.data[(j * group + a) * input + j * group + b]! : a === b ? 1 : 0
    for (let i = 0; i < codebooks * k; i++) {
      aimed.fill(0)
      through(books, i * d, 1, aimed, 0)
      let sum = 0
      for (let t = 0; t < d; t++) sum += aimed[t]! * books[i * d + t]!
      norms[i] = sum
    }
    for (const { gap, pull } of guesses) {
      if (moment) {
        const some = new Float64Array(input * group)
        for (let i = 0; i < input; i++)
          for (let b = 0; b < group; b++) some[i * group + b] = moment.data[i * input + j * group + b]!
        pull.set(multiply({ rows: out, cols: input, data: gap }, { rows: input, cols: group, data: some }).data)
      } else
        for (let o = 0; o < heights; o++) for (let t = 0; t < d; t++) pull[o * d + t] = gap[placeOf(shape, o, j, t)]!
    }
    for (let c = 0; c < codebooks; c++) {
      const next: Guess[] = guesses.length === 1 && beam === 1 ? guesses : []
      for (let o = 0; o < heights; o++) {
        const s = scales[o]!
        const code = (o * columns + j) * codebooks + c
        const best = leastOf(beam)
        guesses.forEach(({ codes, loss, pull }, g) => {
          const old = c * k + codes[code]!
          for (let t = 0; t < d; t++) aimed[t] = pull[o * d + t]!
          through(books, old * d, s, aimed, 0)
          let own = 0
          for (let t = 0; t < d; t++) own += aimed[t]! * books[old * d + t]!
          const from = loss[o]! + 2 * s * own - s * s * norms[old]!
          // the code as it is comes first, so that it stays where nothing is better
          best.put(loss[o]!, g * k + codes[code]!)
          for (let i = 0, at = c * k * d; i < k; i++, at += d) {
            if (i === codes[code]) continue
            let sum = 0
            for (let t = 0; t < d; t++) sum += aimed[t]! * books[at + t]!
            best.put(from - 2 * s * sum + s * s * norms[c * k + i]!, g * k + i)
          }
        })
        best.ids.forEach((id, rank) => {
          const source = guesses[Math.floor(id / k)]!
          if (next !== guesses && !next[rank]) next[rank] = copyOf(source)
          const into = next[rank]!
          if (into !== source) copyRow(source, into, o, shape)
          into.loss[o] = best.values[rank]!
          const [was, is] = [into.codes[code]!, id % k]
          if (was === is) return
          into.codes[code] = is
          for (let t = 0; t < d; t++)
            into.gap[placeOf(shape, o, j, t)]! -= s * (books[(c * k + is) * d + t]! - books[(c * k + was) * d + t]!)
          through(books, (c * k + was) * d, s, into.pull, o * d)
          through(books, (c * k + is) * d, -s, into.pull, o * d)
        })
      }
      guesses = next
    }
    if (!moment) guesses = guesses.slice(0, 1)
  }
  return guesses[0]!.codes
}

/** what a guess holds of row group o */
const copyRow = (from: Guess, to: Guess, o: number, { out, input, group, outGroup }: AdditiveShape): void => {
  const [size, d] = [outGroup * input, group * outGroup]
  const codes = from.codes.length / (out / outGroup)
  to.gap.set(from.gap.subarray(o * size, (o + 1) * size), o * size)
  to.codes.set(from.codes.subarray(o * codes, (o + 1) * codes), o * codes)
  to.pull.set(from.pull.subarray(o * d, (o + 1) * d), o * d)
}
