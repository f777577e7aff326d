import { kindOf, type Prepared, type PrepareOptions, prepare, read } from '@weftjs/data'
import type { ModelTokenizer, TransformerConfig } from '@weftjs/model'
import type { Batch, Rng } from '@weftjs/spec'
import type { ByteSource } from '@weftjs/tensor/checkpoint'
import { fromFile } from '@weftjs/tensor/checkpoint/file'
import { Failure } from './fail.ts'
import type { RunFile } from './runfile.ts'
import type { DataSettings, TrainSettings } from './schema.ts'
import { warn } from './terminal.ts'

export interface Feed extends Prepared {
  /** of all files */
  readonly bytes: number
  close(): Promise<void>
}

export interface FeedModel {
  readonly tokenizer: ModelTokenizer | undefined
  readonly config: TransformerConfig
  readonly rng: Rng
  /** of the run file, for messages; data.path by default */
  readonly field?: string
  readonly epochs?: number
}

/** The data of a run file as batches. */
export const feed = async (
  file: Pick<RunFile<unknown>, 'find'>,
  { path, format, split, validation = 0, ...fields }: DataSettings,
  { length, batch }: Pick<TrainSettings, 'length' | 'batch'>,
  { tokenizer, config, rng, field = 'data.path', epochs }: FeedModel,
): Promise<Feed> => {
  checkLength(length, config)
  let pattern: RegExp | undefined
  try {
    pattern = split === undefined ? undefined : new RegExp(split, 'm')
  } catch (error) {
    throw new Failure(`data.split: ${(error as Error).message}; write a JavaScript regular expression`)
  }
  if (format === 'chat' && !tokenizer?.chat)
    throw new Failure('data.format: this model has no chat template; use completion, or a model tuned for chat')
  const paths: string[] = []
  for (const [i, p] of [path].flat().entries())
    paths.push(await file.find(p, Array.isArray(path) ? `${field}.${i}` : field))
  const sources: ByteSource[] = []
  for (const p of paths) sources.push(await fromFile(p))
  // ids are JSON Lines whatever the file is called
  const as = format === 'ids' && sources.every((s) => kindOf(s.name) === 'text') ? 'jsonl' : undefined
  const rows = read(sources, { ...(as && { as }), ...(pattern && { split: pattern }) })
  const options: PrepareOptions = {
    ...(Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined)) as Partial<PrepareOptions>),
    format,
    length,
    batch,
    rng,
    validation,
    vocabulary: config.vocabulary,
    ...(epochs !== undefined && { epochs }),
    ...(tokenizer && { tokenizer }),
  }
  const prepared = prepare(rows, options)
  const named = async function* (batches: AsyncIterable<Batch>): AsyncGenerator<Batch> {
    try {
      yield* batches
    } catch (error) {
      const { message } = error as Error
      // a row that is off has its file and line; that nothing was there is of all files
      throw /^(the data holds|none of the)/.test(message) ? new Failure(`${paths.join(', ')}: ${message}`) : error
    }
  }
  return {
    batches: (given) => named(prepared.batches(given)),
    validation: (...given) => named(prepared.validation(...given)),
    notes: prepared.notes,
    bytes: sources.reduce((n, s) => n + s.size, 0),
    close: async () => {
      for (const source of sources) await source.close?.()
    },
  }
}

/** dynamic rope stretches itself to any length */
const checkLength = (length: number, { maxLength, rope }: TransformerConfig): void => {
  const type = rope?.scaling?.['rope_type'] ?? rope?.scaling?.['type']
  if (length > maxLength && type !== 'dynamic')
    throw new Failure(
      `train.length: ${length} tokens are more than the ${maxLength} that the model takes (max_position_embeddings); lower it`,
    )
}

/** batches that are gone through often, kept */
export const kept = async (batches: AsyncIterable<Batch>): Promise<readonly Batch[]> => {
  const all: Batch[] = []
  for await (const batch of batches) all.push(batch)
  return all
}

export const tellNotes = (notes: readonly string[]): void => {
  for (const note of notes) warn(`data: ${note}`)
}
