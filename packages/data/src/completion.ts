import type { Example, Stage, Tokenizer } from '@weftjs/spec'
import { format, has, type Row, stringField } from './row.ts'
import { begins, frame, framed } from './tokens.ts'

export interface CompletionOptions {
  tokenizer: Tokenizer
  /** a field name, or a template: "Question: {question}\nAnswer: " */
  prompt?: string
  /** a field name, or a template: "{answer}" */
  completion?: string
  /** called once where a prompt's tokens are not those that the joined text begins with */
  note?: (note: string) => void
}

/** Where a row names neither: the pairs that files commonly use, the first that fits. */
const KNOWN = [
  { prompt: 'prompt', completion: 'completion' },
  { prompt: 'prompt', completion: 'response' },
  { prompt: '{question}\n', completion: 'answer' },
  { prompt: '{instruction}\n', completion: 'output', optional: 'input' },
] as const

const SLOT = /\{([^{}]+)\}/g

const names = (pattern: string): string[] => {
  const slots = [...pattern.matchAll(SLOT)].map((m) => m[1]!)
  return slots.length > 0 ? slots : [pattern]
}

const fill = (pattern: string, row: Row, place: string): string => {
  const remedy = 'name the fields, for instance { prompt: "question", completion: "answer" }'
  if (!new RegExp(SLOT).test(pattern)) return stringField(row, pattern, place, remedy)
  return pattern.replace(SLOT, (_, name: string) => stringField(row, name, place, remedy))
}

/** Prompt and completion of a row by the options, or by the first known pair of field names that it has. */
const parts = (row: Row, place: string, prompt?: string, completion?: string): [string, string] => {
  if (prompt === undefined && completion === undefined)
    for (const known of KNOWN) {
      if (!names(known.prompt).every((name) => has(row, name)) || !has(row, known.completion)) continue
      const head = fill(known.prompt, row, place)
      const extra = 'optional' in known && has(row, known.optional) ? stringField(row, known.optional, place) : ''
      return [extra === '' ? head : `${head}${extra}\n`, fill(known.completion, row, place)]
    }
  return [fill(prompt ?? 'prompt', row, place), fill(completion ?? 'completion', row, place)]
}

/**
 * prompt and completion joined, the loss on the completion and its EOS only  —  as TRL's SFTTrainer
 *
 * The joined text is tokenized whole and the
 * first places, as many as the prompt alone has tokens, carry no loss; where the prompt's tokens change by the joining, `note` says so.
 * Field names: prompt/completion, prompt/response, question/answer, instruction/input/output, or those given.
 */
export const completion = ({ tokenizer, prompt, completion: answer, note }: CompletionOptions): Stage<Row, Example> => {
  const { before } = frame(tokenizer)
  const document = framed(tokenizer)
  let told = false
  return format(function* (row, place) {
    const [head, tail] = parts(row, place, prompt, answer)
    const prefix = [...before, ...tokenizer.encode(head, { special: false })]
    const ids = document(head + tail)
    if (!begins(prefix, ids) && !told) {
      told = true
      note?.(
        `${place}: the tokens of the prompt change where the completion joins it, so the mask may be off by a token there; end prompts at a word's end, or with a line end (said once)`,
      )
    }
    yield { ids, labels: ids.map((id, i) => (i < prefix.length ? -100 : id)) }
  })
}
