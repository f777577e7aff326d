import type { Example, Stage } from '@weftjs/spec'
import { stage } from './lazy.ts'

export interface LearnableOptions {
  /** ids must lie below this: the rows of the model's embedding */
  vocabulary?: number
  note?: (note: string) => void
}

/**
 * Passes examples on and refuses data that nothing can be learned from: no examples at all, or no label on any (a first token is never
 * predicted, so its label does not count); and ids that the model has no row for.
 */
export const learnable = ({ vocabulary = Number.POSITIVE_INFINITY, note }: LearnableOptions = {}): Stage<Example> => {
  let told = false
  return stage(async function* (items) {
    let total = 0
    let idle = 0
    for await (const example of items) {
      total++
      const over = example.ids.find((id) => id >= vocabulary)
      if (over !== undefined)
        throw new Error(
          `example ${total}: token ${over} is outside the model's vocabulary of ${vocabulary}; the tokenizer does not match the model`,
        )
      if (!example.labels.some((label, i) => i > 0 && label !== -100)) idle++
      yield example
    }
    if (total === 0)
      throw new Error(
        'the data holds no rows; is the file empty, is everything in it filtered out, or was it a stream, which can be read only once?',
      )
    if (idle === total)
      throw new Error(
        `none of the ${total} examples has a token to learn from; are prompts longer than "length", completions empty, or all labels -100?`,
      )
    if (idle > 0 && !told) {
      told = true
      note?.(`${idle} of ${total} examples have no token to learn from`)
    }
  })
}
