import { type Input, nameOf } from './input.ts'
import { lazy } from './lazy.ts'
import { lines } from './lines.ts'
import { describe, placed, type Row } from './row.ts'

/**
 * rows of a file with one JSON object a line; streaming  —  JSON Lines, RFC 8259
 *
 * Blank lines are left out. Errors name the line.
 */
export const jsonl = (input: Input): AsyncIterable<Row> =>
  lazy(async function* () {
    let number = 0
    for await (const line of lines(input)) {
      number++
      if (line.trim() === '') continue
      const place = `${nameOf(input)}, line ${number}`
      let value: unknown
      try {
        value = JSON.parse(line)
      } catch (error) {
        throw new Error(`${place}: not JSON (${(error as Error).message}); each line must hold one object`)
      }
      if (typeof value !== 'object' || value === null || Array.isArray(value))
        throw new Error(`${place}: found ${describe(value)}, want an object`)
      yield placed(value as Record<string, unknown>, place)
    }
  })
