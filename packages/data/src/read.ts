import { csv } from './csv.ts'
import { type Input, nameOf } from './input.ts'
import { json } from './json.ts'
import { jsonl } from './jsonl.ts'
import { lazy } from './lazy.ts'
import type { Row } from './row.ts'
import { type TextOptions, text } from './text.ts'

export type FileKind = 'text' | 'jsonl' | 'json' | 'csv' | 'tsv' | 'parquet'

export interface ReadOptions extends TextOptions {
  /** the kind of file; absent, by the end of its name, and text where that says nothing */
  as?: FileKind
}

/** The kind of a file by the end of its name. */
export const kindOf = (name: string): FileKind => {
  const end = /\.([a-z]+)$/.exec(name.toLowerCase())?.[1] ?? ''
  if (end === 'jsonl' || end === 'ndjson') return 'jsonl'
  return end === 'json' || end === 'csv' || end === 'tsv' || end === 'parquet' ? end : 'text'
}

const open = async (input: Input, kind: FileKind, options: TextOptions): Promise<AsyncIterable<Row>> => {
  if (kind === 'jsonl') return jsonl(input)
  if (kind === 'json') return json(input)
  if (kind === 'csv' || kind === 'tsv') return csv(input, { delimiter: kind === 'tsv' ? '\t' : ',' })
  if (kind === 'text') return text(input, options)
  if (kind !== 'parquet')
    throw new Error(`read: no reader for "${kind as string}"; there are text, jsonl, json, csv, tsv, parquet`)
  if (Symbol.asyncIterator in input)
    throw new Error(`${nameOf(input)}: Parquet is read by ranges; give a Blob, a Uint8Array or a ByteSource, no stream`)
  const { parquet } = await import('./parquet.ts')
  return parquet(input)
}

/** The rows of one or more files, one after another, each by the reader of its kind. */
export const read = (inputs: Input | readonly Input[], { as, ...options }: ReadOptions = {}): AsyncIterable<Row> =>
  lazy(async function* () {
    for (const input of Array.isArray(inputs) ? (inputs as readonly Input[]) : [inputs as Input])
      yield* await open(input, as ?? kindOf(nameOf(input)), options)
  })
