import Papa from 'papaparse'
import { type Input, nameOf } from './input.ts'
import { lazy } from './lazy.ts'
import { placed, type Row } from './row.ts'
import { utf8 } from './utf8.ts'

export interface CsvOptions {
  /** one character between fields; '\t' for TSV */
  delimiter?: string
  /** column names, where the file has no header row */
  columns?: readonly string[]
}

interface Parsed {
  readonly data: string[][]
  readonly errors: readonly { readonly row: number; readonly message: string }[]
  readonly meta: { readonly cursor: number }
}

const headerOf = (names: readonly string[], name: string): readonly string[] => {
  const twice = names.find((column, i) => names.indexOf(column) !== i)
  if (twice !== undefined) throw new Error(`${name}: two columns are called "${twice}"; give each a name of its own`)
  return names
}

/**
 * rows of a CSV file with a header, all values strings; streaming  —  RFC 4180
 *
 * LF or CRLF; quoted fields may hold line ends; blank lines are left out.
 * A carriage return at the end of a row's last field is taken for part of the line end.
 * Throws at a row with more or fewer fields than the header, at a stray or missing quote, naming the row (the header is row 1).
 */
export const csv = (input: Input, { delimiter = ',', columns }: CsvOptions = {}): AsyncIterable<Row> =>
  lazy(async function* () {
    if (delimiter.length !== 1 || '"\r\n\ufeff'.includes(delimiter))
      throw new Error(
        `csv: delimiter ${JSON.stringify(delimiter)} must be one character that is no quote and no line end`,
      )
    const name = nameOf(input)
    const parser = new Papa.Parser({ delimiter, newline: '\n' })
    let header = columns === undefined ? undefined : headerOf(columns, name)
    let number = 0
    async function* take({ data, errors }: Parsed): AsyncGenerator<Row, void, undefined> {
      for (let i = 0; i <= data.length; i++) {
        number++
        const place = `${name}, row ${number}`
        const error = errors.find(({ row }) => row === i)
        if (error !== undefined)
          throw new Error(`${place}: ${error.message}; write a quote inside a quoted field twice ("")`)
        const fields = data[i]
        if (fields === undefined) break
        fields.push(fields.pop()!.replace(/\r$/, ''))
        if (fields.length === 1 && fields[0]!.trim() === '') continue
        if (header === undefined) {
          header = headerOf(fields, name)
          continue
        }
        if (fields.length !== header.length)
          throw new Error(
            `${place}: ${fields.length} fields, but the header has ${header.length} (${header.join(delimiter)}); quote a field that holds a ${JSON.stringify(delimiter)}`,
          )
        yield placed(Object.fromEntries(header.map((column, c) => [column, fields[c]!])), place)
      }
      number-- // the row after the last is not there yet
    }
    let rest = ''
    let enough = 0 // a row longer than a piece is tried again only when the text has doubled
    for await (const piece of utf8(input)) {
      rest += piece
      if (rest.length < enough) continue
      // the parser wants the character after a closing quote: text that ends on a line end is whole, the rest waits
      const end = rest.lastIndexOf('\n') + 1
      if (end === 0) continue
      const parsed = parser.parse(rest.slice(0, end), 0, true) as Parsed
      yield* take(parsed)
      rest = rest.slice(parsed.meta.cursor)
      enough = parsed.meta.cursor === 0 ? rest.length * 2 : 0
    }
    yield* take(parser.parse(rest, 0, false) as Parsed)
  })
