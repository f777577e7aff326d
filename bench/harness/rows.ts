import type { RowSpec, Value } from './types.ts'

/** Rows of one of our sides beside one of a peer's: `const row = beside('PyTorch', 'ours', 'torch')`. */
export const beside =
  (peer: string, ours: string, theirs: string) =>
  (
    metric: string,
    of: Value,
    better: 'more' | 'less',
    { goal, ofTheirs }: { goal?: number; ofTheirs?: Value } = {},
  ): RowSpec => ({
    ...{ peer, metric, ours, theirs, of, better },
    ...(goal !== undefined && { goal }),
    ...(ofTheirs && { ofTheirs }),
  })

/** peak resident memory of the side's process */
export const peak: Value = (_, ran) => ran.peak / 1e6
/** n of something in each unit, by the second */
export const each =
  (n: number): Value =>
  (u) =>
    (n / u.ms) * 1000
export const metric =
  (name: string): Value =>
  (u) =>
    u[name] ?? Number.NaN
