/** The tables of figures, from the newest full run that bench/results keeps: whole jobs for the README, all for bench's. */
import { existsSync, readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { digits } from '../bench/harness/report.ts'
import type { Report } from '../bench/harness/types.ts'
import { read, root } from './source.ts'

const folder = 'bench/results'

/** what a user waits for, in the README's order; the rest are kernels alone */
const JOBS = ['lora-step', 'lora-step-gpu', 'qlora-step', 'full-step', 'generate', 'load', 'long']
const place = ({ name }: Report): number => (JOBS.includes(name) ? JOBS.indexOf(name) : JOBS.length)

/** the newest by the date in its name; undefined before there is any */
const newest = (): string | undefined =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder))
        .filter((n) => n.endsWith('.json'))
        .sort()
        .at(-1)
    : undefined

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
  const file = newest()
  if (!file) return 'No full run has been kept yet: `npm run bench -- all --keep` makes one.'
  const reports = (JSON.parse(read(join(folder, file))) as Report[])
    // those of the adapters stand in the table of their family
    .filter((r) => (all ? r.name !== 'adapters' : JOBS.includes(r.name)))
    .sort((a, b) => place(a) - place(b))
  const { date, machine, threads } = reports[0]!
  return [
    `On ${machine}; ${threads} threads on both sides, ${date.slice(0, 10)} ([every figure](${relative(from, join(folder, file))})).`,
    'A ratio above 1 is in our favour, for time and for memory alike; in brackets the least and the most of all pairs.',
    '',
    table(['benchmark', 'figure', 'ours', 'beside', 'theirs', 'ratio', 'goal'], rowsOf(reports)),
  ].join('\n')
}
