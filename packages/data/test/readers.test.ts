import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { collect, csv, type Input, json, jsonl, kindOf, lines, read, text } from '../src/index.ts'
import { utf8 } from '../src/utf8.ts'
import { cut, stream, utf, watched } from './toy.ts'

const named = (name: string, content: string | Uint8Array) => {
  const all = typeof content === 'string' ? utf(content) : content
  return { name, size: all.length, read: async (start: number, end: number) => all.slice(start, end) }
}
const join = async (input: Input) => (await collect(utf8(input))).join('')
const places = fc.array(fc.nat(10_000), { maxLength: 8 })

describe('utf8', () => {
  it('gives the text however the bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary' }), places, async (s, at) => {
        const pieces = cut(utf(s), at)
        // a mark at the very start is a byte order mark
        expect(await join(stream(pieces))).toBe(s.replace(/^\ufeff/, ''))
      }),
    )
  })

  it('agrees with the strict decoder of the platform on any bytes, and names the first bad one', async () => {
    const strict = (b: Uint8Array) => new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(b)
    const bad = (b: Uint8Array) => {
      try {
        strict(b)
        return false
      } catch {
        return true
      }
    }
    const hostile = fc.array(
      fc.oneof(fc.constantFrom(0x41, 0xc3, 0xa9, 0xe0, 0xed, 0xf0, 0xf4, 0x80, 0x9f, 0xbf), fc.nat(255)),
    )
    let refused = 0
    await fc.assert(
      fc.asyncProperty(hostile, places, async (list, at) => {
        const all = Uint8Array.from(list)
        if (!bad(all)) {
          expect(await join(stream(cut(all, at)))).toBe(strict(all).replace(/^\ufeff/, ''))
          return
        }
        refused++
        const error: Error = await join(stream(cut(all, at))).then(
          () => new Error('was not refused'),
          (e) => e,
        )
        const offset = Number(/byte (\d+) /.exec(error.message)?.[1])
        // what stands before is sound; with the byte, no bytes that follow can make it so
        expect(bad(all.subarray(0, offset))).toBe(false)
        const lead = all[offset]!
        const longest = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
        for (let n = 1; n <= longest && offset + n <= all.length; n++)
          expect(bad(all.subarray(offset, offset + n))).toBe(true)
      }),
      { numRuns: 300 },
    )
    expect(refused).toBeGreaterThan(50)
  })

  it('drops a byte order mark and names UTF-16', async () => {
    expect(await join(utf('\ufeffa\ufeffb'))).toBe('a\ufeffb')
    expect(await join(new Blob(['\ufeffhé']))).toBe('hé')
    await expect(join(named('notes.txt', Uint8Array.of(0xff, 0xfe, 0x41, 0)))).rejects.toThrow(
      'notes.txt: byte 0 (ff fe) is not UTF-8 but the mark of UTF-16; save the file as UTF-8',
    )
    await expect(join(Uint8Array.of(0x41, 0x42, 0xe2, 0x82))).rejects.toThrow('input: byte 2 (e2 82) is not UTF-8')
  })

  it('reads a source in pieces of a megabyte, and refuses one that is cut short', async () => {
    const big = new Uint8Array(2_500_000).fill(0x61)
    const reads: number[][] = []
    const source = {
      ...named('big.txt', big),
      read: async (a: number, b: number) => {
        reads.push([a, b])
        return big.slice(a, b)
      },
    }
    for await (const piece of utf8(source)) {
      expect(piece.length).toBe(1 << 20)
      break
    }
    expect(reads).toEqual([[0, 1 << 20]])
    expect((await join(source)).length).toBe(big.length)
    await expect(join({ ...source, size: big.length + 5 })).rejects.toThrow('big.txt: 402848 bytes came for')
  })
})

describe('lines and jsonl', () => {
  it('do not depend on where the pieces end', async () => {
    const value = fc.dictionary(fc.string(), fc.oneof(fc.string({ unit: 'binary' }), fc.integer(), fc.constant(null)))
    await fc.assert(
      fc.asyncProperty(
        fc.array(value),
        fc.constantFrom('\n', '\r\n', '\n\n'),
        fc.boolean(),
        places,
        async (rows, end, last, at) => {
          const file = rows.map((row) => JSON.stringify(row)).join(end) + (last ? end : '')
          expect(await collect(jsonl(stream(cut(utf(file), at))))).toEqual(
            rows.map((row) => JSON.parse(JSON.stringify(row))),
          )
        },
      ),
    )
    expect(await collect(lines(utf('a\r\n\nb\rc')))).toEqual(['a', '', 'b\rc'])
  })

  it('names the line that is wrong', async () => {
    const good = '{"text":"a"}\n\n'
    await expect(collect(jsonl(named('t.jsonl', `${good}{"text":`)))).rejects.toThrow(/^t\.jsonl, line 3: not JSON \(/)
    await expect(collect(jsonl(named('t.jsonl', `${good}[1]`)))).rejects.toThrow(
      't.jsonl, line 3: found an array of 1, want an object',
    )
    await expect(collect(jsonl(utf('null')))).rejects.toThrow('input, line 1: found null, want an object')
    expect(await collect(jsonl(utf(' \n')))).toEqual([])
  })

  it('streams: gives rows before the end is read, and closes the source', async () => {
    const source = watched([utf('{"n":1}\n{"n":2}\n'), utf('{"n":3}\n'), utf('broken')])
    for await (const row of jsonl(source)) {
      expect(row).toEqual({ n: 1 })
      break
    }
    expect(source).toMatchObject({ pulled: 1, closed: 1 })
  })
})

describe('json', () => {
  it('reads an array of objects and nothing else', async () => {
    expect(await collect(json(utf('\ufeff[{"a":1},{"a":2}]')))).toEqual([{ a: 1 }, { a: 2 }])
    expect(await collect(json(utf('')))).toEqual([])
    await expect(collect(json(utf('{"a":1}\n{"a":2}')))).rejects.toThrow('read it as jsonl')
    await expect(collect(json(utf('{"a":1}')))).rejects.toThrow('found an object, want an array of objects')
    await expect(collect(json(named('q.json', '[{}, 7]')))).rejects.toThrow('q.json, element 2: found a number (7)')
  })
})

describe('text', () => {
  it('is one document, or the parts between matches', async () => {
    expect(await collect(text(utf('\ufeffa\r\nb')))).toEqual([{ text: 'a\nb' }])
    expect(await collect(text(utf('one\n---\n \n---\ntwo'), { split: /^---\n/m }))).toEqual([
      { text: 'one\n' },
      { text: 'two' },
    ])
    expect(await collect(text(utf(' \n')))).toEqual([])
  })
})

describe('csv', () => {
  const quoted = (s: string) => (/[",\n\r]/.test(s) || s.trim() !== s || s === '' ? `"${s.replaceAll('"', '""')}"` : s)
  // a carriage return that ends a row's last field is taken for its line end
  const cell = fc
    .string({ unit: fc.constantFrom('a', 'é', '"', ',', '\n', '\r', ' ', '🧵', '\t') })
    .map((s) => s.replace(/\r+$/, ''))

  it('gives what was written, wherever the pieces end', async () => {
    const table = fc
      .integer({ min: 2, max: 4 })
      .chain((n) => fc.array(fc.array(cell, { minLength: n, maxLength: n }), { minLength: 1 }))
    await fc.assert(
      fc.asyncProperty(table, fc.constantFrom('\n', '\r\n'), fc.boolean(), places, async (cells, end, last, at) => {
        const columns = cells[0]!.map((_, c) => `c${c}`)
        const file = [columns, ...cells].map((row) => row.map(quoted).join(',')).join(end) + (last ? end : '')
        const expected = cells.map((row) => Object.fromEntries(row.map((v, c) => [`c${c}`, v])))
        expect(await collect(csv(stream(cut(utf(file), at))))).toEqual(expected)
      }),
      { numRuns: 300 },
    )
  })

  it('gives the same rows or the same error for any text, wherever the pieces end', async () => {
    const outcome = (input: Input) => collect(csv(input)).catch((e: Error) => e.message)
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: fc.constantFrom('a', 'b', '"', ',', '\n', '\r', ' ') }),
        places,
        async (s, at) => {
          expect(await outcome(stream(cut(utf(s), at)))).toEqual(await outcome(utf(s)))
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('names the row that is wrong', async () => {
    const fails = (file: string, message: string | RegExp) =>
      expect(collect(csv(named('t.csv', file)))).rejects.toThrow(message)
    await fails(
      'a,b\n1,2\n1,2,3\n',
      't.csv, row 3: 3 fields, but the header has 2 (a,b); quote a field that holds a ","',
    )
    await fails('a,b\n1,"2\n', 't.csv, row 2: Quoted field unterminated')
    await fails('a,b\n"x"y,2\n', 't.csv, row 2: Trailing quote on quoted field is malformed')
    await fails('a,a\n1,2', 't.csv: two columns are called "a"')
    await expect(collect(csv(utf('a'), { delimiter: '"' }))).rejects.toThrow('must be one character')
  })

  it('reads TSV, files without a header, blank lines', async () => {
    expect(await collect(csv(utf('a\tb\r\n1\t2,\r\n\r\n'), { delimiter: '\t' }))).toEqual([{ a: '1', b: '2,' }])
    expect(await collect(csv(utf('1,2'), { columns: ['a', 'b'] }))).toEqual([{ a: '1', b: '2' }])
    expect(await collect(csv(utf('')))).toEqual([])
  })

  it('streams, and a field longer than many pieces costs little', async () => {
    const source = watched([utf('a,b\n1,2\n'), utf('3,4\n')])
    for await (const row of csv(source)) {
      expect(row).toEqual({ a: '1', b: '2' })
      break
    }
    expect(source).toMatchObject({ pulled: 1, closed: 1 })
    const long = 'line of a long field\n'.repeat(50_000)
    const pieces = cut(
      utf(`a\n"${long}"\nend\n`),
      Array.from({ length: 500 }, (_, i) => i * 2100),
    )
    expect(await collect(csv(stream(pieces)))).toEqual([{ a: long }, { a: 'end' }])
  })
})

describe('read', () => {
  it('chooses by name, and goes from file to file', async () => {
    expect(['a.JSONL', 'b.ndjson', 'c.json', 'd.csv', 'e.tsv', 'f.parquet', 'g.txt', 'README'].map(kindOf)).toEqual([
      'jsonl',
      'jsonl',
      'json',
      'csv',
      'tsv',
      'parquet',
      'text',
      'text',
    ])
    const files = [named('a.jsonl', '{"t":1}'), named('b.tsv', 't\tu\n2\t3'), named('c.md', 'words')]
    expect(await collect(read(files))).toEqual([{ t: 1 }, { t: '2', u: '3' }, { text: 'words' }])
    expect(await collect(read(new File(['{"t":4}'], 'x.jsonl')))).toEqual([{ t: 4 }])
    expect(await collect(read(utf('t\n5'), { as: 'csv' }))).toEqual([{ t: '5' }])
    await expect(collect(read(stream(['x']), { as: 'parquet' }))).rejects.toThrow('Parquet is read by ranges')
    await expect(collect(read(utf(''), { as: 'xml' as 'csv' }))).rejects.toThrow('no reader for "xml"')
  })
})
