/** What the comparisons of all families keep: results as they come, tables at the end, and an end where one is asked for. */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import type { Backend } from '@weftjs/tensor'
import { root } from '../tools/source.ts'
import type { Spread } from './table.ts'

export const spread = (all: readonly number[]): Spread => {
  const mean = all.reduce((a, b) => a + b, 0) / all.length
  const sd = Math.sqrt(all.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, all.length - 1))
  return { mean, sd }
}

/** Results of runs under their keys, in a file that grows with each: an interrupted comparison goes on from there. */
export interface Journal {
  has(key: string): boolean
  get(key: string): unknown
  set(key: string, value: unknown): void
  /** reads what other processes have added */
  refresh(): void
}
export const journal = (name: string, { anew }: { anew: boolean }): Journal => {
  const path = `${root}.cache/claims-${name}.jsonl`
  mkdirSync(`${root}.cache`, { recursive: true })
  if (anew) writeFileSync(path, '')
  const known = new Map<string, unknown>()
  const refresh = (): void => {
    for (const line of existsSync(path) ? readFileSync(path, 'utf8').split('\n') : []) {
      if (!line) continue
      const [key, value] = JSON.parse(line) as [string, unknown]
      known.set(key, value)
    }
  }
  refresh()
  return {
    has: (key) => known.has(key),
    get: (key) => known.get(key),
    set: (key, value) => {
      known.set(key, value)
      appendFileSync(path, `${JSON.stringify([key, value])}\n`)
    },
    refresh,
  }
}

/** The first Ctrl-C asks for an end after the run that is under way, the second is one. */
export const ending = (underWay: () => string): { readonly asked: boolean } => {
  const state = { asked: false }
  process.on('SIGINT', () => {
    if (state.asked) process.exit(130)
    state.asked = true
    console.error(`\nstopping after this run (${underWay()}); go on with --resume`)
  })
  return state
}

/** when and where a table was made */
export const made = ({ name }: Backend): { date: string; machine: string } => ({
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} threads, ${name}`,
})

/** a table of claims/results; null where there is none yet */
export const tablePath = (name: string): string => `claims/results/${name}.json`
export const keptTable = <T>(name: string): T | null =>
  existsSync(root + tablePath(name)) ? (JSON.parse(readFileSync(root + tablePath(name), 'utf8')) as T) : null
export const keepTable = (table: { readonly name: string }): void => {
  mkdirSync(`${root}claims/results`, { recursive: true })
  writeFileSync(root + tablePath(table.name), `${JSON.stringify(table, null, 1)}\n`)
}
