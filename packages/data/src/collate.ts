import type { Example, Stage } from '@weftjs/spec'
import { map } from './map.ts'
import { type PackedRow, rowOf } from './rows.ts'
import { type Long, truncate } from './truncate.ts'

export interface CollateOptions {
  /** places of a row */
  length: number
  /** id that fills the end of a row */
  pad?: number
  /** what becomes of examples longer than a row */
  long?: Long
}

/** One example to a row, padded right to `length` with segment 0 and target -100. */
export const collate = ({ length, pad = 0, long = 'truncate' }: CollateOptions): Stage<Example, PackedRow> => {
  const fit = truncate(length, { long })
  const write = map((example: Example) => rowOf([example], length, pad))
  return (items) => write(fit(items))
}
