import type { Params } from '@weftjs/spec'
import { largestOf } from '@weftjs/tensor'
import { topOfAll } from './top-of-all.ts'

/** By name of a matrix: the flat places of its numbers that moved most, in order, and by how much. */
export type Moved = Readonly<Record<string, { readonly flat: Int32Array; readonly by: Float32Array }>>

/** how far the numbers of a tensor are from where they were */
const difference = (before: Params, after: Params, name: string): Float32Array => {
  const [from, to] = [before[name], after[name]!]
  if (from?.shape.join() !== to.shape.join())
    throw new Error(`${name}: [${to.shape}] after training and ${from ? `[${from.shape}]` : 'nothing'} before`)
  const start = from.dataSync()
  return Float32Array.from(to.dataSync() as Float32Array, (v, i) => v - start[i]!)
}
const chosen = (by: Float32Array, flat: Int32Array): Moved[string] => ({
  flat,
  by: Float32Array.from(flat, (i) => by[i]!),
})

/** the `count` numbers that moved most, of all tensors together */
export const movedMost = (before: Params, after: Params, count: number): Moved => {
  const names = Object.keys(after)
  const total = Object.values(after).reduce((n, t) => n + t.size, 0)
  if (!Number.isInteger(count) || count < 1 || count > total)
    throw new Error(`movedMost: count ${count} of ${total} numbers; it must be a whole number from 1 to their number`)
  const { from, flat } = topOfAll((i) => difference(before, after, names[i]!).map(Math.abs), names.length, count)
  const flats = names.map((): number[] => [])
  from.forEach((i, j) => {
    flats[i]!.push(flat[j]!)
  })
  return Object.fromEntries(
    names.map((name, i) => [name, chosen(difference(before, after, name), Int32Array.from(flats[i]!).sort())]),
  )
}

/** the share of each tensor that moved most, rounded up */
export const movedMostOfEach = (before: Params, after: Params, share: number): Moved =>
  Object.fromEntries(
    Object.keys(after).map((name) => {
      const by = difference(before, after, name)
      return [name, chosen(by, largestOf(by.map(Math.abs), Math.ceil(share * by.length)))]
    }),
  )
