import type { Ran, Row, RowSpec, Spread } from './types.ts'

/** middle of the sorted values, or the mean of the two in the middle */
export const median = (values: readonly number[]): number => {
  if (!values.length) throw new Error('median: no values')
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const spread = (values: readonly number[]): Spread => ({
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values),
})

/** of each pair, above 1 where ours is better */
export const ratios = (ours: readonly number[], theirs: readonly number[], better: 'more' | 'less'): number[] =>
  Array.from({ length: Math.min(ours.length, theirs.length) }, (_, i) =>
    better === 'more' ? ours[i]! / theirs[i]! : theirs[i]! / ours[i]!,
  )

/** what is within a rounding of the goal reaches it */
export const reaches = (ratio: number, goal: number): boolean => ratio >= goal * (1 - 1e-9)

/** A row of the report. A side that is missing leaves its number out, and the row says why. */
export const rowOf = (
  { peer, metric, ours, theirs, of, ofTheirs = of, better, goal }: RowSpec,
  ran: Readonly<Record<string, Ran>>,
  missing: Readonly<Record<string, string>> = {},
): Row => {
  const [a, b] = [ran[ours], ran[theirs]]
  const values = [a?.units.map((u) => of(u, a)), b?.units.map((u) => ofTheirs(u, b))] as const
  const [mine, other] = values.map((v) => (v?.length ? spread(v) : null)) as [Spread | null, Spread | null]
  const ratio = mine && other ? spread(ratios(values[0]!, values[1]!, better)) : null
  const why = [missing[ours], missing[theirs]].filter((m, i, all) => m && all.indexOf(m) === i).join('; ')
  return {
    ...{ peer, metric, ours: mine, theirs: other, ratio, goal: goal ?? null },
    holds: goal === undefined || !ratio ? null : reaches(ratio.median, goal),
    ...(why && { missing: why }),
  }
}

/**
 * The first difference of two sides' checks that is larger than `most`, relatively to the larger; undefined where they
 * agree. Steps are compared as far as both went, three at the most: what follows is rounding that has grown.
 */
export const disagreement = (a: Ran, b: Ran, most: number): string | undefined => {
  const n = Math.min(a.checks.length, b.checks.length, 3)
  for (let i = 0; i < n; i++) {
    const [x, y] = [a.checks[i]!, b.checks[i]!]
    if (!(Math.abs(x - y) <= most * Math.max(Math.abs(x), Math.abs(y))))
      return `unit ${i + 1}: ${a.label} computes ${x}, ${b.label} ${y}: they do not do the same`
  }
  return n ? undefined : `${a.label} and ${b.label} tell nothing to be compared by`
}
