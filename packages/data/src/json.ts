import { type Input, nameOf } from './input.ts'
import { lazy } from './lazy.ts'
import { describe, placed, type Row } from './row.ts'
import { utf8 } from './utf8.ts'

/**
 * rows of a JSON file that is an array of objects  —  RFC 8259
 *
 * It is parsed whole; for a large file prefer JSONL.
 */
export const json = (input: Input): AsyncIterable<Row> =>
  lazy(async function* () {
    const parts: string[] = []
    for await (const piece of utf8(input)) parts.push(piece)
    const all = parts.join('')
    if (all.trim() === '') return
    let value: unknown
    try {
      value = JSON.parse(all)
    } catch (error) {
      throw new Error(
        `${nameOf(input)}: not JSON (${(error as Error).message}); if each line is an object of its own, read it as jsonl`,
      )
    }
    if (!Array.isArray(value)) throw new Error(`${nameOf(input)}: found ${describe(value)}, want an array of objects`)
    for (const [index, row] of value.entries()) {
      const place = `${nameOf(input)}, element ${index + 1}`
      if (typeof row !== 'object' || row === null || Array.isArray(row))
        throw new Error(`${place}: found ${describe(row)}, want an object`)
      yield placed(row as Record<string, unknown>, place)
    }
  })
