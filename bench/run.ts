/** `npm run bench -- NAME...`: our figures beside the peers', measured in turn. Without a name, says how to use it. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { load, machine, physicalCores } from './harness/machine.ts'
import { atRest, Disturbed, type MeasureOptions, measure } from './harness/measure.ts'
import { names } from './harness/names.ts'
import { nearest } from './harness/nearest.ts'
import { pythonOf } from './harness/peers.ts'
import { digits, summary, text, verdict } from './harness/report.ts'
import type { Bench, Ran, Report, Row } from './harness/types.ts'

const folder = import.meta.dirname
const HELP = `usage: npm run bench -- NAME... [options]      NAME: one of --list, or all
  --json          end with one line of JSON for each name
  --keep          keep the reports in this day's file under bench/results
  --peer TEXT     only what is beside a peer whose name has TEXT in it
  --rounds N      pairs of each match, instead of what the benchmark says
  --quick         two rounds, for a first look
  --threads N     of both sides; the number of cores by default
  --anyway        measure on a busy machine too, and mark the figures
  --python PATH   a Python that has torch, transformers and peft (or WEFT_BENCH_PYTHON)
  --keep-env      keep OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE of this shell
  --list          names and questions`

const open = async (name: string): Promise<Bench> =>
  ((await import(pathToFileURL(join(folder, `${name}.ts`)).href)) as { bench: Bench }).bench

interface Flags extends MeasureOptions {
  readonly peer?: string | undefined
}

/** one benchmark from beginning to end */
const run = async (name: string, flags: Flags): Promise<Report> => {
  const { question, matches, also } = await open(name)
  const wanted = (peer: string): boolean => !flags.peer || peer.toLowerCase().includes(flags.peer.toLowerCase())
  let disturbed = !(await atRest(flags))
  const before = load()
  const rows: Row[] = []
  const results: Readonly<Record<string, Ran>>[] = []
  for (const match of typeof matches === 'function' ? await matches() : matches) {
    const kept = match.rows.filter((r) => wanted(r.peer))
    const keys = new Set(kept.flatMap((r) => [r.ours, r.theirs]))
    if (!kept.length) {
      results.push({})
      continue
    }
    const sides = Object.fromEntries(Object.entries(match.sides).filter(([k]) => keys.has(k)))
    const outcome = await measure({ ...match, rows: kept, sides }, flags)
    rows.push(...outcome.rows)
    results.push(outcome.ran)
    disturbed ||= outcome.disturbed
  }
  rows.push(...(also?.(results) ?? []).filter((r) => wanted(r.peer)))
  return {
    ...{ name, question, date: new Date().toISOString(), machine: machine(), threads: flags.threads },
    ...{ load: [before, load()], disturbed, rows, sides: results.flatMap((r) => Object.values(r)) },
  }
}

const write = (path: string, value: unknown): void => {
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, `${JSON.stringify(value, null, 1)}\n`)
}

/** letters and digits of a machine's name, for a file */
const slug = (s: string): string =>
  s
    .split(', ')
    .slice(0, 2)
    .join(' ')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')

const main = async (): Promise<number> => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      anyway: { type: 'boolean', default: false },
      'keep-env': { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false, short: 'h' },
      rounds: { type: 'string' },
      threads: { type: 'string' },
      python: { type: 'string' },
      peer: { type: 'string' },
    },
  })
  const all = names()
  if (values.list) {
    for (const name of all) console.log(`${name.padEnd(16)}${(await open(name)).question}`)
    return 0
  }
  if (values.help || !positionals.length) {
    console.log(HELP)
    return values.help ? 0 : 2
  }
  const count = (name: 'rounds' | 'threads'): number | undefined => {
    const given = values[name]
    if (given === undefined) return undefined
    if (!(Number.isInteger(Number(given)) && Number(given) >= 1))
      throw new Error(`--${name}: must be a whole number of at least 1, found '${given}'`)
    return Number(given)
  }
  const wrong = positionals.find((n) => n !== 'all' && !all.includes(n))
  if (wrong !== undefined) {
    console.error(`no benchmark '${wrong}'; did you mean ${nearest(wrong, all).join(', ')}? All are: ${all.join(', ')}`)
    return 2
  }
  const flags: Flags = {
    threads: count('threads') ?? physicalCores(),
    rounds: count('rounds') ?? (values.quick ? 2 : undefined),
    anyway: values.anyway,
    keepEnv: values['keep-env'],
    python: pythonOf(values.python),
    peer: values.peer,
    onProgress: (line) => process.stderr.write(`  . ${line}\n`),
  }
  const wanted = positionals.includes('all') ? all : positionals
  const reports: Report[] = []
  const refused = new Map<string, Disturbed>()
  /** a name that others disturb is tried again when all the rest is done */
  const attempt = async (name: string): Promise<void> => {
    try {
      const report = await run(name, flags)
      refused.delete(name)
      reports.push(report)
      write(join(folder, '../.cache/bench/last', `${name}.json`), report)
      console.log(text(report))
      if (values.json && wanted.length > 1) console.log(JSON.stringify(summary(report)))
    } catch (error) {
      if (!(error instanceof Disturbed) || wanted.length === 1) throw error
      refused.set(name, error)
      console.error(`${name}: refused: ${error.message}`)
    }
  }
  for (const name of wanted) await attempt(name)
  for (const name of [...refused.keys()]) await attempt(name)
  if (reports.length > 1) {
    console.log('In short:')
    for (const { name, rows } of reports)
      for (const row of rows)
        if (row.goal !== null)
          console.log(
            `  ${row.holds === null ? '?' : row.holds ? '+' : '-'} ${name}, ${row.peer}, ${row.metric}: ${row.ratio ? `${digits(row.ratio.median)}x, ${verdict(row)}` : (row.missing ?? 'no figure')}`,
          )
  }
  if (values.keep && reports.length) keep(reports)
  if (refused.size) console.error(`refused: ${[...refused.keys()].join(', ')}`)
  if (values.json && reports.length) console.log(JSON.stringify(summary(reports.at(-1)!)))
  return refused.size || reports.some((r) => r.rows.some((row) => !row.ours)) ? 1 : 0
}

/** one file for a day and a machine: names measured again take the place of what was there */
const keep = (reports: readonly Report[]): void => {
  const disturbed = reports.find((r) => r.disturbed)
  if (disturbed)
    throw new Error(`${disturbed.name}: figures of a busy machine are not kept; run again when it is quiet`)
  const file = `${reports.map((r) => r.date.slice(0, 10)).sort()[0]}-${slug(machine())}.json`
  const path = join(folder, 'results', file)
  const before = existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Report[]) : []
  const again = new Set(reports.map((r) => r.name))
  const merged = [...before.filter((r) => !again.has(r.name)), ...reports]
  write(
    path,
    merged.sort((a, b) => (a.name < b.name ? -1 : 1)),
  )
  console.log(`kept in bench/results/${file}; npm run generate brings it into the README`)
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(
    error instanceof Disturbed ? `refused: ${error.message}` : error instanceof Error ? error.message : error,
  )
  process.exitCode = 1
}
