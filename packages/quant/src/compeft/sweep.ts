import type { Params } from '@weftjs/spec'
import { dispose } from '@weftjs/tensor'
import { fromCompeft, type ToCompeftOptions, toCompeft } from './file.ts'

/** the grids of the paper */
export const KEEPS: readonly number[] = [0.05, 0.1, 0.2, 0.3, 0.5]
export const ALPHAS: readonly number[] = [0.5, 1, 2, 3, 4, 5, 6, 8, 10]

export interface SweepOptions extends Pick<ToCompeftOptions, 'base'> {
  readonly keeps?: readonly number[]
  readonly alphas?: readonly number[]
}
export interface SweepRow {
  readonly keep: number
  readonly alpha: number
  readonly loss: number
  readonly bytes: number
}

/**
 * Which k and α lose least on validation: every pair of the two grids through `loss`, which is given the tensors as they
 * would come out of the file and may not keep them. `rows` begin with the best.
 * @throws Error where every loss is NaN
 */
export const sweepCompeft = async (
  params: Params,
  loss: (params: Params) => Promise<number> | number,
  { keeps = KEEPS, alphas = ALPHAS, base }: SweepOptions = {},
): Promise<{ readonly best: SweepRow; readonly rows: readonly SweepRow[] }> => {
  const rows: SweepRow[] = []
  for (const keep of keeps)
    for (const alpha of alphas) {
      const file = await toCompeft(params, { keep, alpha, ...(base && { base }) })
      const tensors = fromCompeft(file, base ? { base } : {})
      try {
        rows.push({ keep, alpha, loss: await loss(tensors), bytes: file.length })
      } finally {
        dispose(Object.values(tensors))
      }
    }
  const found = rows.filter((r) => !Number.isNaN(r.loss)).sort((a, b) => a.loss - b.loss)
  if (!found.length)
    throw new Error(`sweepCompeft: none of ${rows.length} pairs of keep and alpha has a loss that is a number`)
  return { best: found[0]!, rows: found }
}
