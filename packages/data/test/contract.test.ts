import type { Example, Stage } from '@weftjs/spec'
import { rng } from '@weftjs/tensor'
import { factories, type StageSuite, testStage } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import * as data from '../src/index.ts'
import { bytes } from './toy.ts'

/** files of src that are no stage: readers, which are sources, and what stages share */
const HELPERS = ['csv', 'input', 'json', 'jsonl', 'lazy', 'lines', 'parquet', 'pipe', 'prepare', 'read', 'row', 'rows']
const MORE = ['text', 'tokens', 'utf8']

const numbers = Array.from({ length: 24 }, (_, i) => i)
const example = (i: number): Example => {
  const ids = Array.from({ length: 2 + ((i * 5) % 7) }, (_, j) => (i + j) % 20)
  return { ids, labels: ids }
}
const examples = numbers.map(example)
const rows = numbers.map((i) => ({ text: `text ${i}`, prompt: `p${i}`, completion: `c${i}`, input_ids: [i, i + 1] }))
const turns = numbers.map((i) => ({
  messages: [
    { role: 'user', content: `q${i}` },
    { role: 'assistant', content: `a${i}` },
  ],
}))
const tokenizer = bytes()

/** each stage: how it is made, what it is fed, and how far ahead of its output it may be */
const CASES: Readonly<Record<string, readonly (readonly [make: () => Stage<any, any>, suite: StageSuite<any>])[]>> = {
  'batch-of': [
    [() => data.batchOf(4), { items: numbers, per: 4 }],
    [() => data.batchOf(5, { last: 'drop' }), { items: numbers, per: 5 }],
  ],
  batches: [
    [() => data.batches({ batch: 2, length: 8 }), { items: examples, per: 2 }],
    [() => data.batches({ batch: 2, length: 16, pack: true, window: 8 }), { items: examples, per: 8, ahead: 8 }],
    [() => data.batches({ batch: 1, length: 16, pack: 'sequential' }), { items: examples, per: 8, ahead: 1 }],
  ],
  chat: [[() => data.chat({ tokenizer }), { items: turns }]],
  collate: [[() => data.collate({ length: 10 }), { items: examples }]],
  completion: [[() => data.completion({ tokenizer }), { items: rows }]],
  filter: [[() => data.filter((n: number) => n % 3 === 0), { items: numbers, per: 3 }]],
  ids: [[() => data.ids(), { items: rows }]],
  learnable: [[() => data.learnable({ vocabulary: 30 }), { items: examples }]],
  map: [
    [() => data.map((n: number) => 2 * n), { items: numbers }],
    [() => data.map(async (n: number, i) => n + i), { items: numbers }],
  ],
  pack: [
    [() => data.pack({ length: 16, window: 6 }), { items: examples, per: 6, ahead: 6 }],
    [() => data.pack({ length: 16, strategy: 'sequential' }), { items: examples, per: 8, ahead: 1 }],
  ],
  repeat: [
    [() => data.repeat(1), { items: numbers }],
    [() => data.repeat(2, (epoch) => data.shuffle(rng(0).fork(epoch), { buffer: 3 })), { items: numbers, ahead: 3 }],
  ],
  shuffle: [
    [() => data.shuffle(rng(0), { buffer: 5 }), { items: numbers, ahead: 5 }],
    [() => data.shuffle(rng(0)), { items: numbers, ahead: numbers.length }],
  ],
  skip: [[() => data.skip(3), { items: numbers, ahead: 3 }]],
  split: [
    [() => data.split(0.25, rng(0)).train, { items: numbers, per: 2 }],
    [() => data.split(0.25, rng(0)).validation, { items: numbers, per: 8 }],
  ],
  take: [[() => data.take(5), { items: numbers, endsEarly: true }]],
  'text-examples': [[() => data.textExamples({ tokenizer, length: 6 }), { items: rows }]],
  truncate: [
    [() => data.truncate(4), { items: examples }],
    [() => data.truncate(3, { long: 'split' }), { items: examples }],
    [() => data.truncate(4, { long: 'drop' }), { items: examples, per: 6 }],
  ],
}
/** an empty source is an error here, since nothing can be learned from it */
const REFUSES_NOTHING = ['learnable']

describe('stages', () => {
  it('every file of src is a stage with a row here, or a helper', () => {
    const found = factories(import.meta.glob('../src/*.ts', { eager: true }), [...HELPERS, ...MORE])
    expect(found.map((f) => f.name).sort()).toEqual(Object.keys(CASES).sort())
  })
})
for (const [name, cases] of Object.entries(CASES))
  for (const [i, [make, suite]] of cases.entries())
    testStage(`${name} ${i + 1}`, make, { ...suite, refusesNothing: REFUSES_NOTHING.includes(name) })
