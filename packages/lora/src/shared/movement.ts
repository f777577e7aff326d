import type { Params } from '@weftjs/spec'
import { largestOf } from '@weftjs/tensor'

/** By name of a matrix: the flat places of its numbers that moved most, in order, and by how much. */
export type Moved = Readonly<Record<string, { readonly flat: Int32Array; readonly by: Float32Array }>>

const differences = (before: Params, after: Params): [name: string, by: Float32Array][] =>
  Object.entries(after).map(([name, t]) => {
    const from = before[name]
    if (from?.shape.join() !== t.shape.join())
      throw new Error(`${name}: [${t.shape}] after training and ${from ? `[${from.shape}]` : 'nothing'} before`)
    const start = from.dataSync()
    return [name, Float32Array.from(t.dataSync(), (v, i) => v - start[i]!)]
  })
const chosen = (by: Float32Array, flat: Int32Array): Moved[string] => ({
  flat,
  by: Float32Array.from(flat, (i) => by[i]!),
})

/** the `count` numbers that moved most, of all tensors together */
export const movedMost = (before: Params, after: Params, count: number): Moved => {
  const all = differences(before, after)
  const total = all.reduce((n, [, d]) => n + d.length, 0)
  if (!Number.isInteger(count) || count < 1 || count > total)
    throw new Error(`movedMost: count ${count} of ${total} numbers; it must be a whole number from 1 to their number`)
  // no tensor has more than `count` of the largest: those of each, then of all
  const best = all.map(([name, d]) => ({ name, d, flat: largestOf(d.map(Math.abs), Math.min(count, d.length)) }))
  const joined = new Float32Array(best.reduce((n, b) => n + b.flat.length, 0))
  let at = 0
  for (const { d, flat } of best) for (const i of flat) joined[at++] = Math.abs(d[i]!)
  const winners = largestOf(joined, count)
  let [from, w] = [0, 0]
  return Object.fromEntries(
    best.map(({ name, d, flat }) => {
      const own: number[] = []
      for (; w < winners.length && winners[w]! < from + flat.length; w++) own.push(flat[winners[w]! - from]!)
      from += flat.length
      return [name, chosen(d, Int32Array.from(own))]
    }),
  )
}

/** the share of each tensor that moved most, rounded up */
export const movedMostOfEach = (before: Params, after: Params, share: number): Moved =>
  Object.fromEntries(
    differences(before, after).map(([name, d]) => [
      name,
      chosen(d, largestOf(d.map(Math.abs), Math.ceil(share * d.length))),
    ]),
  )
