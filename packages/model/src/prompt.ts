import type { Tokenizer } from '@weftjs/spec'
import type { TransformerConfig } from './config.ts'

/** one text, or several texts or token ids, mixed if need be */
export type Prompts = string | readonly (string | readonly number[])[]

export interface PromptOptions {
  readonly tokenizer?: Tokenizer | undefined
  readonly maxTokens: number
  /** a prompt that leaves no room: refuse it, or keep its end */
  readonly overflow: 'error' | 'truncate'
}

/** the tokens a model takes: what its config says; no limit under dynamic rope scaling, which stretches as a text grows */
export const lengthOf = ({ maxLength, rope }: TransformerConfig): number =>
  (rope?.scaling?.['rope_type'] ?? rope?.scaling?.['type']) === 'dynamic' ? Number.POSITIVE_INFINITY : maxLength

/** @throws Error where an id is not a row of the embedding */
export const checkIds = (ids: readonly number[], { vocabulary }: TransformerConfig, place: string): void => {
  const at = ids.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < vocabulary))
  if (at >= 0)
    throw new Error(
      `${place}: token ${JSON.stringify(ids[at]) ?? ids[at]} at place ${at} is outside the model's vocabulary of ${vocabulary}; use the tokenizer that belongs to the model`,
    )
}

/** @throws Error where a model does not predict the next token */
export const checkCausal = (config: TransformerConfig, what: string): void => {
  if (config.input !== 'tokens' || config.output !== 'causal')
    throw new Error(
      `${what}: ${config.architecture} does not predict the next token (its output is '${config.output}'); use a decoder such as Llama or GPT-2`,
    )
}

/** prompts as ids, each checked against the model, with room for at least one token */
export const promptIds = (
  prompts: Prompts,
  config: TransformerConfig,
  { tokenizer, maxTokens, overflow }: PromptOptions,
): (readonly number[])[] =>
  (typeof prompts === 'string' ? [prompts] : prompts).map((prompt, row) => {
    const place = `prompt ${row}`
    if (typeof prompt === 'string' && !tokenizer)
      throw new Error(`${place} is text: pass the model's \`tokenizer\`, or token ids instead`)
    if (typeof prompt !== 'string' && !Array.isArray(prompt))
      throw new Error(`${place} must be text or an array of token ids, found ${JSON.stringify(prompt)}`)
    const ids = typeof prompt === 'string' ? tokenizer!.encode(prompt, { special: true }) : prompt
    checkIds(ids, config, place)
    if (!ids.length)
      throw new Error(
        `${place} is empty and the tokenizer adds nothing to it; begin with a token, such as BOS or a newline`,
      )
    const length = lengthOf(config)
    if (ids.length < length) return ids
    if (overflow === 'truncate') {
      const room = Math.max(length - maxTokens, Math.ceil(length / 2), 1)
      return ids.slice(-Math.min(room, length - 1))
    }
    throw new Error(
      `${place} has ${ids.length} tokens and the model takes ${length} with the answer; shorten it, or pass overflow: 'truncate' to keep its end`,
    )
  })
