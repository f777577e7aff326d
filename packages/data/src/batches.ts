import type { Batch, Example, Stage } from '@weftjs/spec'
import { batchOf } from './batch-of.ts'
import { whole } from './lazy.ts'
import { map } from './map.ts'
import { plan } from './pack.ts'
import { batchOfRows } from './rows.ts'
import { skip as skipping } from './skip.ts'
import { type Long, truncate } from './truncate.ts'

export interface BatchesOptions {
  /** rows of a batch */
  batch: number
  /** places of a row */
  length: number
  /** several examples to a row: by best fit (true, 'bfd') or in order ('sequential'); one to a row by default */
  pack?: boolean | 'bfd' | 'sequential'
  /** examples that best-fit decreasing sees at a time */
  window?: number
  /** what becomes of examples longer than a row */
  long?: Long
  /** id of padding */
  pad?: number
  /** a last batch that is short: filled with rows of padding, or left out */
  last?: 'pad' | 'drop'
  /** batches to pass over: they are planned, not written, so this is cheap */
  skip?: number
}

/** Which rows of examples share a batch, without writing it; `skip` of them are passed over. */
export const planBatches = ({
  batch,
  length,
  pack = false,
  window = 1024,
  long = 'truncate',
  last = 'pad',
  skip = 0,
}: BatchesOptions): Stage<Example, readonly (readonly Example[])[]> => {
  whole('batches: length', length)
  const group = batchOf<readonly Example[]>(whole('batches: batch', batch), { last: last === 'drop' ? 'drop' : 'keep' })
  const one = map((example: Example): readonly Example[] => [example])
  const fit = truncate(length, { long })
  const rows: Stage<Example, readonly Example[]> =
    pack === false ? (items) => one(fit(items)) : plan({ length, window, long, strategy: pack === true ? 'bfd' : pack })
  const pass = skipping<readonly (readonly Example[])[]>(skip)
  return (items) => pass(group(rows(items)))
}

/** Examples as batches of [batch, length], always of that shape. */
export const batches = (options: BatchesOptions): Stage<Example, Batch> => {
  const { batch, length, pad = 0 } = options
  const rows = planBatches(options)
  const write = map((some: readonly (readonly Example[])[]) => batchOfRows(some, batch, length, pad))
  return (items) => write(rows(items))
}
