import type { Seen, Statistic, Tensor } from '@weftjs/spec'
import { dispose } from '@weftjs/tensor'

/** What was seen at a site, with its tensors, to save and to dispose: sites with one input share theirs. */
export interface Calibrated extends Seen {
  readonly tensors: Readonly<Partial<Record<Statistic, Tensor>>>
}

export const seenOf = (site: string, rows: number, batches: number, tensors: Calibrated['tensors']): Calibrated => ({
  rows,
  batches,
  tensors,
  get: (statistic) => {
    const found = tensors[statistic]
    if (found) return found
    throw new Error(
      `${site}: the calibration pass gathered ${Object.keys(tensors).join(', ')}, not '${statistic}'; name it in "statistics"`,
    )
  },
})

/** Gives up what a calibration pass gathered; what two sites share goes once. */
export const disposeSeen = (seen: Readonly<Record<string, Calibrated>>): void =>
  dispose([...new Set(Object.values(seen).flatMap((s) => Object.values(s.tensors)))])
