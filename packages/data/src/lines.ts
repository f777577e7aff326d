import type { Input } from './input.ts'
import { lazy } from './lazy.ts'
import { utf8 } from './utf8.ts'

/** The lines of a text, without their LF or CRLF; streaming. A last line need not end. */
export const lines = (input: Input): AsyncIterable<string> =>
  lazy(async function* () {
    const trim = (line: string): string => (line.endsWith('\r') ? line.slice(0, -1) : line)
    let rest = ''
    for await (const piece of utf8(input)) {
      let start = 0
      for (let end = piece.indexOf('\n'); end >= 0; end = piece.indexOf('\n', start)) {
        yield trim(rest + piece.slice(start, end))
        rest = ''
        start = end + 1
      }
      rest += piece.slice(start)
    }
    if (rest !== '') yield trim(rest)
  })
