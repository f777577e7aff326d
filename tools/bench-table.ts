/** The tables of figures, from the newest run of each that bench/results keeps: whole jobs for the README, all for bench's. */
import { existsSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { digits } from '../bench/harness/report.ts'
import type { Report } from '../bench/harness/types.ts'
import { read, root } from './source.ts'

const folder = 'bench/results'

/** what a user waits for, in the README's order; the rest are kernels alone */
const JOBS = ['lora-step', 'lora-step-gpu', 'qlora-step', 'full-step', 'generate', 'load', 'long']
const place = ({ name }: Report): number => (JOBS.includes(name) ? JOBS.indexOf(name) : JOBS.length)

interface Kept {
  readonly file: string
  readonly report: Report
}
/** the newest report of each benchmark, by the dates in the files' names */
const newest = (): Kept[] => {
  const names = existsSync(join(root, folder)) ? readdirSync(join(root, folder)).sort() : []
  const found = new Map<string, Kept>()
  for (const file of names.filter((n) => n.endsWith('.json')))
    for (const report of JSON.parse(read(join(folder, file))) as Report[]) found.set(report.name, { file, report })
  return [...found.values()]
}

/** rows with a goal, as cells: name, work beside whom, both figures, ratio, goal */
export const rowsOf = (reports: readonly Report[]): string[][] =>
  reports.flatMap(({ name, rows }) =>
    rows
      .filter((r) => r.goal !== null)
      .map((r) => [
        `\`${name}\``,
        r.metric,
        r.ours ? digits(r.ours.median) : '',
        r.peer,
        r.theirs ? digits(r.theirs.median) : '',
        r.ratio ? `${digits(r.ratio.median)} (${digits(r.ratio.min)} to ${digits(r.ratio.max)})` : 'not measured',
        `${digits(r.goal!)}${r.holds === false ? ', missed' : ''}`,
      ]),
  )

/** the table, with links from `from`, and where it comes from; or what to do before there is one */
export const benchTable = (
  table: (head: readonly string[], rows: readonly (readonly string[])[]) => string,
  { from, all }: { from: string; all: boolean },
): string => {
  const kept = newest()
    // those of the adapters stand in the table of their family
    .filter(({ report: { name } }) => (all ? name !== 'adapters' : JOBS.includes(name)))
    .sort((a, b) => place(a.report) - place(b.report))
  if (!kept.length) return 'No full run has been kept yet: `npm run bench -- all --keep` makes one.'
  const { machine, threads } = kept[0]!.report
  const days = [...new Map(kept.map(({ file, report }) => [file, report.date.slice(0, 10)]))].sort()
  const links = days.map(([file, day]) => `${day} ([every figure](${relative(from, join(folder, file))}))`)
  return [
    `On ${machine}; ${threads} threads on both sides, ${links.join(' and ')}.`,
    'A ratio above 1 is in our favour, for time and for memory alike; in brackets the least and the most of all pairs.',
    '',
    table(['benchmark', 'figure', 'ours', 'beside', 'theirs', 'ratio', 'goal'], rowsOf(kept.map((k) => k.report))),
  ].join('\n')
}
