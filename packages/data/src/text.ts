import { type Input, nameOf } from './input.ts'
import { lazy } from './lazy.ts'
import { placed, type Row } from './row.ts'
import { utf8 } from './utf8.ts'

export interface TextOptions {
  /** where one document ends and the next begins, for instance /^---$/m; absent, the file is one document */
  split?: RegExp
}

/**
 * plain text as rows {text}  —  UTF-8, RFC 3629
 *
 * The file is one document, or the parts between matches of `split`; parts of white space only are left out.
 * CRLF becomes LF. The whole file is held in memory.
 */
export const text = (input: Input, { split }: TextOptions = {}): AsyncIterable<Row> =>
  lazy(async function* () {
    const parts: string[] = []
    for await (const piece of utf8(input)) parts.push(piece)
    const all = parts.join('').replaceAll('\r\n', '\n')
    let number = 0
    for (const document of split === undefined ? [all] : all.split(split)) {
      // a pattern with groups yields undefined for those that took no part
      if (document === undefined || document.trim() === '') continue
      number++
      yield placed({ text: document }, split === undefined ? nameOf(input) : `${nameOf(input)}, document ${number}`)
    }
  })
