import { readFileSync } from 'node:fs'
import { Tokenizer } from '@huggingface/tokenizers'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

interface Row {
  text: string
  ids: number[]
  special: number[]
  decoded: string
  skipped: string
}
const read = <T>(path: string): T => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as T

const config = read<Record<string, unknown>>('../model/tokenizer_config.json')
const tokenizer = new Tokenizer(read<object>('../model/tokenizer.json'), config)
// What the Python library gives: written by tools/mini/prepare.py beside the tokenizer.
const rows = read<Row[]>('./fixtures/tokenizer.json')
const plain = { add_special_tokens: false }

describe('the tokenizer of mini', () => {
  it('has 4096 entries with the special tokens first', () => {
    const { model } = read<{ model: { vocab: Record<string, number> } }>('../model/tokenizer.json')
    const ids = Object.values(model.vocab)
    expect(ids.length).toBe(4096)
    expect(new Set(ids).size).toBe(4096)
    expect(Math.max(...ids)).toBe(4095)
    expect(['<s>', '</s>', '<pad>', '<|im_start|>', '<|im_end|>'].map((t) => tokenizer.token_to_id(t))).toEqual([
      0, 1, 2, 3, 4,
    ])
  })

  it('is tested on at least 50 strings', () => {
    expect(new Set(rows.map((row) => row.text)).size).toBeGreaterThanOrEqual(50)
  })

  it.each(rows)('gives the ids of the Python library for $text', ({ text, ids, special }) => {
    expect(tokenizer.encode(text, plain).ids).toEqual(ids)
    expect(tokenizer.encode(text).ids).toEqual(special)
  })

  it.each(rows.filter((row) => row.ids.length > 0))('decodes as the Python library for $text', (row) => {
    expect(tokenizer.decode(row.ids, { skip_special_tokens: false })).toBe(row.decoded)
    expect(tokenizer.decode(row.ids, { skip_special_tokens: true })).toBe(row.skipped)
    expect(row.decoded).toBe(row.text)
  })

  it('gives every string back: no text is unknown to it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }), (text) => {
        const { ids } = tokenizer.encode(text, plain)
        expect(tokenizer.decode(ids, { skip_special_tokens: false })).toBe(text)
      }),
      { numRuns: 300, seed: 7 },
    )
  })
})
