import { kindOf, type Prepared, type PrepareOptions, prepare, read } from '@weftjs/data'
import type { ModelTokenizer } from '@weftjs/model'
import type { Batch, Rng } from '@weftjs/spec'
import { fromFile } from '@weftjs/tensor/checkpoint/file'
import { Failure } from './fail.ts'
import type { DataSettings, RunFile, TrainSettings } from './runfile.ts'
import { warn } from './terminal.ts'

/** The data of a run file as batches. */
export const feed = async (
  file: RunFile<unknown>,
  data: Pick<DataSettings, 'path' | 'format'> & Partial<DataSettings>,
  { length, batch }: Pick<TrainSettings, 'length' | 'batch'>,
  model: { tokenizer: ModelTokenizer | undefined; vocabulary: number; rng: Rng; field?: string; epochs?: number },
): Promise<Prepared> => {
  const { path, format, split, validation = 0, ...fields } = data
  const sources = []
  for (const p of [path].flat()) sources.push(await fromFile(await file.find(p, model.field ?? 'data.path')))
  // ids are JSON Lines whatever the file is called
  const as = format === 'ids' && sources.every((s) => kindOf(s.name) === 'text') ? 'jsonl' : undefined
  let pattern: RegExp | undefined
  try {
    pattern = split === undefined ? undefined : new RegExp(split, 'm')
  } catch (error) {
    throw new Failure(`data.split: ${(error as Error).message}`)
  }
  const rows = read(sources, { ...(as && { as }), ...(pattern && { split: pattern }) })
  const options: PrepareOptions = {
    ...(Object.fromEntries(Object.entries(fields).filter(([, v]) => v !== undefined)) as Partial<PrepareOptions>),
    format,
    length,
    batch,
    rng: model.rng,
    validation,
    vocabulary: model.vocabulary,
    ...(model.epochs !== undefined && { epochs: model.epochs }),
    ...(model.tokenizer && { tokenizer: model.tokenizer }),
  }
  return prepare(rows, options)
}

/** the part set aside, kept, since it is gone through often */
export const heldOut = async (prepared: Prepared): Promise<readonly Batch[]> => {
  const all: Batch[] = []
  for await (const batch of prepared.validation()) all.push(batch)
  return all
}

export const tellNotes = (notes: readonly string[]): void => {
  for (const note of notes) warn(`data: ${note}`)
}
