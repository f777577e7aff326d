import type { Batch, Example, Rng, Stage, Tokenizer } from '@weftjs/spec'
import { type BatchesOptions, batches, planBatches } from './batches.ts'
import { type ChatOptions, chat } from './chat.ts'
import { type CompletionOptions, completion } from './completion.ts'
import { ids } from './ids.ts'
import { collect, from, lazy, whole } from './lazy.ts'
import { learnable } from './learnable.ts'
import { pipe } from './pipe.ts'
import type { Row } from './row.ts'
import { batchOfRows } from './rows.ts'
import { shuffle } from './shuffle.ts'
import { split } from './split.ts'
import { type TextExamplesOptions, textExamples } from './text-examples.ts'
import { truncate } from './truncate.ts'

type Fields = Omit<TextExamplesOptions & CompletionOptions & ChatOptions, 'tokenizer' | 'length' | 'note'>

export interface PrepareOptions extends Omit<BatchesOptions, 'skip'>, Fields {
  format: 'text' | 'completion' | 'chat' | 'ids'
  /** needed by every format but ids */
  tokenizer?: Tokenizer
  /** rows of the model's embedding; the tokenizer's vocabulary when absent */
  vocabulary?: number
  /** for the order and the split; needed unless `shuffle` is false and `validation` 0 */
  rng?: Rng
  /** a new random order each epoch; by default for all formats but ids, which keeps the order of the file */
  shuffle?: boolean
  /** without it examples are kept in memory; with it they are read anew each epoch and shuffled among so many */
  buffer?: number
  /** passes over the data; without end by default */
  epochs?: number
  /** part of the examples, from 0 to 0.5, that is set aside */
  validation?: number
}

export interface Prepared {
  /** training batches in order, from the one after the first `skip`: the same seed gives the same batches wherever one begins */
  batches(options?: { skip?: number }): AsyncIterable<Batch>
  /** the part set aside, once through, in order */
  validation(): AsyncIterable<Batch>
  /** what a user should know of the data, as it is found */
  readonly notes: readonly string[]
}

const formatOf = (options: PrepareOptions, note: (note: string) => void): Stage<Row, Example> => {
  const { format, tokenizer, length, vocabulary } = options
  if (format === 'ids') return ids(vocabulary === undefined ? {} : { vocabulary })
  const needed = tokenizer
  if (needed === undefined) throw new Error(`prepare: the format "${format}" needs a tokenizer`)
  if (format === 'text') {
    const { stride, field } = options
    return textExamples({
      tokenizer: needed,
      length,
      ...(stride !== undefined && { stride }),
      ...(field !== undefined && { field }),
    })
  }
  if (format === 'completion') return completion({ ...options, tokenizer: needed, note })
  if (format === 'chat') return chat({ ...options, tokenizer: needed, note })
  throw new Error(`prepare: no format "${format as string}"; there are text, completion, chat, ids`)
}

/**
 * Rows to training batches in one call: format, check, set aside, shuffle by epoch, pack, batch.
 * prepare(read(file), { format: 'text', tokenizer, length: 256, batch: 8, rng }).batches()
 */
export const prepare = (rows: AsyncIterable<Row>, options: PrepareOptions): Prepared => {
  const { format, tokenizer, rng, buffer, validation = 0, epochs = Number.POSITIVE_INFINITY } = options
  const { batch, length, window, last, shuffle: mixed = format !== 'ids', long = 'truncate' } = options
  if (epochs !== Number.POSITIVE_INFINITY) whole('prepare: epochs', epochs)
  const need = (what: string): Rng => {
    if (rng === undefined)
      throw new Error(`prepare: ${what} needs a random generator; give rng, for instance rng(seed)`)
    return rng
  }
  const order = mixed ? need('shuffle').fork('order') : undefined
  const parts = validation > 0 ? split<Example>(validation, need('validation').fork('validation')) : undefined
  const notes: string[] = []
  const note = (text: string): void => {
    if (!notes.includes(text)) notes.push(text)
  }
  const vocabulary = options.vocabulary ?? tokenizer?.vocabulary
  const read = pipe(
    rows,
    formatOf({ ...options, ...(vocabulary !== undefined && { vocabulary }) }, note),
    truncate(length, { long, note }),
    learnable({ note, ...(vocabulary !== undefined && { vocabulary }) }),
  )
  let kept: Promise<Example[]> | undefined
  const held = (): Promise<Example[]> => {
    kept ??= collect(read)
    return kept
  }
  const examples =
    buffer !== undefined
      ? read
      : lazy<Example>(async function* () {
          yield* await held()
        })
  const shape = {
    batch,
    length,
    long,
    pack: options.pack ?? format !== 'ids',
    pad: options.pad ?? tokenizer?.pad ?? tokenizer?.eos ?? 0,
    ...(window !== undefined && { window }),
    ...(last !== undefined && { last }),
  }
  const rowsOf = planBatches(shape)
  return {
    notes,
    batches: ({ skip = 0 } = {}) => {
      whole('prepare: skip', skip, 0)
      return lazy(async function* () {
        let left = skip
        for (let epoch = 0; epoch < epochs; epoch++) {
          const part = parts === undefined ? examples : parts.train(examples)
          const mix = order && shuffle<Example>(order.fork(epoch), buffer === undefined ? {} : { buffer })
          let count = 0
          for await (const some of rowsOf(mix === undefined ? part : mix(part))) {
            count++
            if (left > 0) left--
            else yield batchOfRows(some, batch, length, shape.pad)
          }
          if (count === 0)
            throw new Error('prepare: an epoch has no batch; lower "batch" or "validation", or let last be "pad"')
        }
      })
    },
    validation: () =>
      parts === undefined ? from<Batch>([]) : batches({ ...shape, last: 'pad' })(parts.validation(examples)),
  }
}
