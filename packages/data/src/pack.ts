import type { Example, Stage } from '@weftjs/spec'
import { batchOf } from './batch-of.ts'
import { stage, whole } from './lazy.ts'
import { map } from './map.ts'
import { type PackedRow, rowOf } from './rows.ts'
import { type Long, truncate } from './truncate.ts'

export interface PlanOptions {
  /** places of a row */
  length: number
  /** best-fit decreasing within a window of examples, or the next that fits, in order */
  strategy?: 'bfd' | 'sequential'
  /** examples that best-fit decreasing sees at a time */
  window?: number
  /** what becomes of examples longer than a row */
  long?: Long
}

export interface PackOptions extends PlanOptions {
  /** id that fills the end of a row */
  pad?: number
}

/** Best fit, longest first; rows in the order of their first example, so that a shuffled stream stays shuffled. */
const bestFit = (examples: readonly Example[], length: number): Example[][] => {
  const size = (i: number): number => examples[i]!.ids.length
  const order = examples.map((_, i) => i).sort((a, b) => size(b) - size(a) || a - b)
  const rows: number[][] = []
  const withRoom: number[][][] = [] // [room] → rows that have just so much left
  for (const i of order) {
    let room = size(i)
    while (room < length && !withRoom[room]?.length) room++
    const row = room < length ? withRoom[room]!.pop()! : []
    if (row.length === 0) rows.push(row)
    row.push(i)
    const left = (row.length === 1 ? length : room) - size(i)
    withRoom[left] ??= []
    withRoom[left]!.push(row)
  }
  for (const row of rows) row.sort((a, b) => a - b)
  return rows.sort((a, b) => a[0]! - b[0]!).map((row) => row.map((i) => examples[i]!))
}

/** Which examples share a row, without writing it. */
export const plan = ({
  length,
  strategy = 'bfd',
  window = 1024,
  long = 'split',
}: PlanOptions): Stage<Example, readonly Example[]> => {
  whole('pack: length', length)
  whole('pack: window', window)
  if (strategy !== 'bfd' && strategy !== 'sequential')
    throw new Error(`pack: no strategy "${strategy as string}"; there are bfd and sequential`)
  const fit = truncate(length, { long })
  return stage(async function* (items) {
    if (strategy === 'bfd') {
      for await (const group of batchOf<Example>(window)(fit(items))) yield* bestFit(group, length)
      return
    }
    let row: Example[] = []
    let used = 0
    for await (const example of fit(items)) {
      if (used + example.ids.length > length) {
        yield row
        row = []
        used = 0
      }
      row.push(example)
      used += example.ids.length
    }
    if (row.length > 0) yield row
  })
}

/**
 * several examples to a row, each a segment with positions from 0 that sees only itself  —  Krell et al., arXiv:2107.02027
 *
 * Rows have `length` places; no segment predicts the next. Best-fit decreasing as in Ding et al., arXiv:2404.10830.
 */
export const pack = ({ pad = 0, ...options }: PackOptions): Stage<Example, PackedRow> => {
  const rows = plan(options)
  const write = map((group: readonly Example[]) => rowOf(group, options.length, pad))
  return (items) => write(rows(items))
}
