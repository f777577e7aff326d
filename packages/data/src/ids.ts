import type { Example, Stage } from '@weftjs/spec'
import { describe, field, format, has, type Row } from './row.ts'

export interface IdsOptions {
  /** ids must lie below this */
  vocabulary?: number
}

const readIds = (row: Row, name: string, place: string, vocabulary: number, masked: boolean): number[] => {
  const list = field(row, name, place, 'the format "ids" wants input_ids and, if you like, labels')
  if (!Array.isArray(list)) throw new Error(`${place}: "${name}" is ${describe(list)}, want an array of whole numbers`)
  for (const [i, id] of list.entries()) {
    if (masked && id === -100) continue
    if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0)
      throw new Error(
        `${place}: ${name}[${i}] is ${describe(id)}, want a whole number from 0${masked ? ', or -100 for no loss' : ''}`,
      )
    if (id >= vocabulary)
      throw new Error(
        `${place}: ${name}[${i}] is ${id}, outside the vocabulary of ${vocabulary}; were these ids made by another tokenizer?`,
      )
  }
  return list as number[]
}

/**
 * rows {input_ids, labels?} as they are, in their order; -100 masks  —  Weft's prepared format, fields as in Hugging Face datasets
 *
 * Labels default to input_ids. Whole numbers below `vocabulary`.
 */
export const ids = ({ vocabulary = Number.POSITIVE_INFINITY }: IdsOptions = {}): Stage<Row, Example> =>
  format(function* (row, place) {
    const tokens = readIds(row, 'input_ids', place, vocabulary, false)
    const labels = has(row, 'labels') && row.labels !== null ? readIds(row, 'labels', place, vocabulary, true) : tokens
    if (labels.length !== tokens.length)
      throw new Error(`${place}: ${labels.length} labels for ${tokens.length} input_ids; give one label for each id`)
    yield { ids: tokens, labels }
  })
