import type { Example, Stage } from '@weftjs/spec'
import { stage } from './lazy.ts'

/** One record of a file: field names to values. */
export type Row = Readonly<Record<string, unknown>>

const PLACE = Symbol('place')

/** The same row, which now remembers where it came from (not enumerable, so it does not show). */
export const placed = <T extends object>(row: T, place: string): T =>
  Object.defineProperty(row, PLACE, { value: place })

/** Where a row came from: what its reader noted, else its number in this stream, from 1. */
export const placeOf = (row: object, number: number): string =>
  ((row as Record<symbol, unknown>)[PLACE] as string | undefined) ?? `row ${number}`

/** A value in words, for messages. */
export const describe = (value: unknown): string => {
  if (value === null || value === undefined) return String(value)
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object') return 'an object'
  if (typeof value === 'string')
    return `a string (${JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)})`
  return `a ${typeof value} (${String(value)})`
}

/** True where the row itself has a value under this name. */
export const has = (row: Row, name: string): boolean => Object.hasOwn(row, name) && row[name] !== undefined

/** The value of a field; throws with the fields found and the one wanted. */
export const field = (
  row: Row,
  name: string,
  place: string,
  remedy = 'name the fields of your file in the options',
): unknown => {
  if (has(row, name)) return row[name]
  const found = Object.keys(row).map((key) => `"${key}"`)
  throw new Error(`${place}: no field "${name}"; found ${found.length === 0 ? 'none' : found.join(', ')}; ${remedy}`)
}

/** The text of a field; throws where it is missing or no string. */
export const stringField = (row: Row, name: string, place: string, remedy?: string): string => {
  const value = field(row, name, place, remedy)
  if (typeof value === 'string') return value
  throw new Error(`${place}: "${name}" is ${describe(value)}, want a string`)
}

/** A format: what each row becomes. The place is for messages. */
export const format = (run: (row: Row, place: string) => Iterable<Example>): Stage<Row, Example> =>
  stage(async function* (rows) {
    let number = 0
    for await (const row of rows) yield* run(row, placeOf(row, ++number))
  })
