import type { Revisable, Revision, Tensor1D } from '@weftjs/spec'
import { gather, largestOf, type Tensor, tensor1d, where } from '@weftjs/tensor'
import { flatOf, placesOf, type SparseState } from './sparse.ts'

export interface RegrownState extends SparseState {
  /** the largest second moment in a row [out] and in a column [in] */
  rows?: Tensor1D
  columns?: Tensor1D
}

/** SM3: ν = min(row, column) + g², and the largest ν of each row and column  —  Anil et al., arXiv:1901.11150 */
export const accumulated = ({
  state: { places, rows, columns },
  grads,
}: Revisable<RegrownState>): { rows: Tensor1D; columns: Tensor1D } => {
  const [at, g, r, c] = [places, grads.values!, rows!, columns!].map((t) => t.dataSync()) as [
    Int32Array,
    ...Float32Array[],
  ]
  const [row, column] = [new Float32Array(r!.length), new Float32Array(c!.length)]
  const k = g!.length
  for (let j = 0; j < k; j++) {
    const [i, o] = [at[j]!, at[k + j]!]
    const v = Math.min(r![i]!, c![o]!) + g![j]! ** 2
    row[i] = Math.max(row[i]!, v)
    column[o] = Math.max(column[o]!, v)
  }
  // what no number stands in keeps what it had
  for (let j = 0; j < row.length; j++) row[j] ||= r![j]!
  for (let j = 0; j < column.length; j++) column[j] ||= c![j]!
  return { rows: tensor1d(row), columns: tensor1d(column) }
}

/** the n best of `scores` by flat place; none of `taken` */
export const best = (
  n: number,
  places: ArrayLike<number>,
  scores: ArrayLike<number>,
  taken: ReadonlySet<number>,
): number[] => {
  const free = Float32Array.from(scores, (s, i) => (taken.has(places[i]!) ? -1 : s))
  return Array.from(largestOf(free, n)).filter((i) => free[i]! >= 0)
}

/** places kept and grown in order, with the values that stay; moments of what is new begin at those of its gradients */
export const chosen = (
  { site, state: { values, places } }: Revisable<RegrownState>,
  kept: readonly number[],
  grown: readonly { flat: number; mean?: number; square?: number }[],
  { b1, b2, step }: { b1: number; b2: number; step: number },
): Revision<RegrownState> => {
  const before = flatOf(places, site.weight!.shape[1])
  const old = new Map(Array.from(before, (flat, i) => [flat, i] as const))
  const news = new Map(grown.map((g) => [g.flat, g] as const))
  // a number that was just dropped may come back, as it was
  const flat = [...new Set([...kept.map((i) => before[i]!), ...news.keys()])].sort((a, b) => a - b)
  const index = tensor1d(
    flat.map((f) => old.get(f) ?? 0),
    'int32',
  )
  const stays = tensor1d(
    flat.map((f) => old.has(f)),
    'bool',
  )
  const moved = (t: Tensor, begin: (g: { mean?: number; square?: number }) => number): Tensor =>
    where(stays, gather(t, index), tensor1d(flat.map((f) => (old.has(f) ? 0 : begin(news.get(f)!)))))
  // so that the corrected moments are the means: the optimizer counts its own steps, not those of a number
  const [first, second] = [1 - b1 ** step, 1 - b2 ** step]
  return {
    state: { values: moved(values, () => 0) as Tensor1D, places: placesOf(flat, site.weight!.shape[1]) },
    moments: {
      values: (m, name) =>
        moved(m, (g) => (name === 'm' ? (g.mean ?? 0) * first : name === 'v' ? (g.square ?? 0) * second : 0)),
    },
  }
}
