import type { Example, Stage, Tokenizer } from '@weftjs/spec'
import { whole } from './lazy.ts'
import { format, type Row, stringField } from './row.ts'
import { framed } from './tokens.ts'

export interface TextExamplesOptions {
  tokenizer: Tokenizer
  /** most tokens of an example; absent, a document is one example */
  length?: number
  /** tokens from one window's start to the next; the default, length - 1, makes each token but a document's first a target once */
  stride?: number
  /** the field that holds the text */
  field?: string
}

/**
 * windows of documents in which each token is a target once  —  Bengio et al., JMLR 2003
 *
 * Documents cut into windows of `length` tokens, with the tokenizer's BOS and EOS around each document.
 * A window begins `stride` tokens after the one before; what both hold is context in the later one (label -100), so no token counts twice.
 */
export const textExamples = ({
  tokenizer,
  length = Number.MAX_SAFE_INTEGER,
  stride = length - 1,
  field = 'text',
}: TextExamplesOptions): Stage<Row, Example> => {
  whole('textExamples: length', length, 2)
  if (whole('textExamples: stride', stride) > length)
    throw new Error(`textExamples: stride ${stride} exceeds length ${length} and would lose tokens; lower stride`)
  const document = framed(tokenizer)
  return format(function* (row, place) {
    const all = document(stringField(row, field, place))
    for (let start = 0; start < all.length; start += stride) {
      const ids = all.slice(start, start + length)
      const context = start === 0 ? 0 : length - stride
      if (ids.length > 0) yield { ids, labels: ids.map((id, i) => (i < context ? -100 : id)) }
      if (start + length >= all.length) return
    }
  })
}
