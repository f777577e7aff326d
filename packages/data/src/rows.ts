import type { Batch, Example } from '@weftjs/spec'

/** One row of a batch; every array is [length]. As in `Batch`: targets are shifted, positions restart, segments count from 1. */
export interface PackedRow {
  readonly ids: Int32Array
  readonly targets: Int32Array
  readonly positions: Int32Array
  readonly segments: Int32Array
}

const blank = (places: number, pad: number): PackedRow => ({
  ids: new Int32Array(places).fill(pad),
  targets: new Int32Array(places).fill(-100),
  positions: new Int32Array(places),
  segments: new Int32Array(places),
})

/** Writes examples one after another from place `at`; each is a segment, and its last place has no target. */
const write = (into: PackedRow, at: number, examples: readonly Example[]): void => {
  for (const [s, { ids, labels }] of examples.entries()) {
    for (let i = 0; i < ids.length; i++, at++) {
      into.ids[at] = ids[i]!
      into.targets[at] = i + 1 < ids.length ? labels[i + 1]! : -100
      into.positions[at] = i
      into.segments[at] = s + 1
    }
  }
}

/** The examples of one row, padded right to `length`. */
export const rowOf = (examples: readonly Example[], length: number, pad: number): PackedRow => {
  const row = blank(length, pad)
  write(row, 0, examples)
  return row
}

/** Rows of examples as one batch of [batch, length]; rows that are missing are padding. */
export const batchOfRows = (
  rows: readonly (readonly Example[])[],
  batch: number,
  length: number,
  pad: number,
): Batch => {
  const out = blank(batch * length, pad)
  for (const [r, examples] of rows.entries()) write(out, r * length, examples)
  return { shape: [batch, length], ...out }
}
