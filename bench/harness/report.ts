import type { Report, Row, Spread } from './types.ts'

/** three digits that count, and no exponent: 1234, 12.3, 0.0123 */
export const digits = (x: number): string => {
  if (!Number.isFinite(x)) return String(x)
  const size = Math.abs(x)
  if (Number.isInteger(x)) return String(x)
  return size >= 100 ? String(Math.round(x)) : size >= 10 ? x.toFixed(1) : size >= 1 ? x.toFixed(2) : x.toPrecision(2)
}

const figure = (s: Spread | null): string =>
  s === null
    ? 'none'
    : s.min === s.max
      ? digits(s.median)
      : `${digits(s.median)} (${digits(s.min)} to ${digits(s.max)})`

export const verdict = ({ goal, holds, ratio }: Row): string =>
  goal === null ? '' : `goal ${digits(goal)}x${ratio ? (holds ? ', holds' : ', MISSED') : ''}`

/** a block of text a row, for a terminal */
export const text = ({ name, question, machine, threads, load, disturbed, rows, sides }: Report): string => {
  const table = rows.map((row) => [
    `${row.peer}: ${row.metric}`,
    figure(row.ours),
    figure(row.theirs),
    row.ratio ? `${figure(row.ratio)}x` : '',
    verdict(row),
  ])
  const head = ['beside', 'ours', 'theirs', 'ratio, above 1 is better', 'goal']
  const widths = head.map((h, i) => Math.max(h.length, ...table.map((r) => r[i]!.length)))
  const line = (cells: readonly string[]): string =>
    `  ${cells
      .map((c, i) => c.padEnd(widths[i]!))
      .join('  ')
      .trimEnd()}`
  const reasons = [...new Set(rows.flatMap((r) => (r.missing ? [`${r.peer}: ${r.missing}`] : [])))]
  return [
    `${name}: ${question}`,
    `  ${machine}; ${threads} threads; load ${load[0].toFixed(2)} before, ${load[1].toFixed(2)} after${disturbed ? '; DISTURBED by other processes' : ''}`,
    ...sides.map(
      (s) =>
        `  ${s.label}: peak ${Math.round(s.peak / 1e6)} MB; ${Object.entries(s.facts)
          .map(([k, v]) => `${k} ${typeof v === 'number' ? digits(v) : v}`)
          .join(', ')}`,
    ),
    '',
    line(head),
    ...table.map(line),
    ...reasons.map((r) => `  ! ${r}`),
    '',
  ].join('\n')
}

/** the last line of `--json` */
export const summary = ({ name, machine, load, disturbed, rows }: Report): object => ({
  name,
  machine,
  load,
  ...(disturbed && { disturbed }),
  rows: rows.map(({ peer, metric, ours, theirs, ratio, goal, holds, missing }) => ({
    ...{ peer, metric, ours: ours?.median ?? null, theirs: theirs?.median ?? null, ratio: ratio?.median ?? null },
    ...{ goal, holds },
    ...(missing && { missing }),
  })),
})
