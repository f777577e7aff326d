import type { Example, Message, Stage, Tokenizer } from '@weftjs/spec'
import { describe, field, format, type Row } from './row.ts'
import { begins } from './tokens.ts'

export interface ChatOptions {
  tokenizer: Tokenizer
  /** the field that holds the messages */
  messages?: string
  /** the names of a message's parts: { role: 'from', content: 'value' } */
  role?: string
  content?: string
  /** whose turns carry the loss */
  speaker?: string
  /** all of the speaker's turns, or the last only (for templates that rewrite earlier turns) */
  turns?: 'all' | 'last'
  /** called once where tokens run over the border of a turn */
  note?: (note: string) => void
}

const readMessages = (
  row: Row,
  place: string,
  options: Required<Pick<ChatOptions, 'messages' | 'role' | 'content'>>,
): Message[] => {
  const list = field(row, options.messages, place, 'name it by the option `messages`')
  if (!Array.isArray(list) || list.length === 0)
    throw new Error(`${place}: "${options.messages}" is ${describe(list)}, want an array of {role, content}`)
  return list.map((message: unknown, i) => {
    const at = `${place}, message ${i + 1}`
    if (typeof message !== 'object' || message === null)
      throw new Error(`${at}: found ${describe(message)}, want an object`)
    const part = (name: string): string => {
      const value = field(message as Row, name, at, 'a message has a role and a content')
      if (typeof value !== 'string') throw new Error(`${at}: "${name}" is ${describe(value)}, want a string`)
      return value
    }
    return { role: part(options.role), content: part(options.content) }
  })
}

/**
 * conversations by the model's chat template, the loss on the assistant's turns only  —  chat templates of Hugging Face transformers
 *
 * A turn is what the template adds between the
 * messages before it (with the generation prompt) and the messages up to it. Throws where the template is not prefix-stable: where
 * later messages change how earlier ones are written, so that no place of the text could be masked with certainty.
 */
export const chat = ({
  tokenizer,
  messages = 'messages',
  role = 'role',
  content = 'content',
  speaker = 'assistant',
  turns = 'all',
  note,
}: ChatOptions): Stage<Row, Example> => {
  const template = tokenizer.chat
  if (template === undefined)
    throw new Error('chat: this tokenizer has no chat template; use the completion format, or a model tuned for chat')
  let told = false
  return format(function* (row, place) {
    const render = (list: readonly Message[], generationPrompt: boolean): string => {
      try {
        return template.call(tokenizer, list, { generationPrompt })
      } catch (error) {
        throw new Error(
          `${place}: the chat template refuses the first ${list.length} messages (${(error as Error).message})`,
        )
      }
    }
    const list = readMessages(row, place, { messages, role, content })
    const spoken = list.flatMap((message, i) => (message.role === speaker ? [i] : []))
    if (spoken.length === 0)
      throw new Error(
        `${place}: no message of role "${speaker}" to learn from; found ${[...new Set(list.map((m) => m.role))].join(', ')}`,
      )
    const last = spoken.at(-1)!
    const full = render(list.slice(0, last + 1), false)
    const ids = tokenizer.encode(full, { special: false })
    const count = (text: string): number => {
      const head = tokenizer.encode(text, { special: false })
      if (!begins(head, ids) && !told) {
        told = true
        note?.(`${place}: a token runs over the border of a turn, so the mask may be off by a token there (said once)`)
      }
      return head.length
    }
    const labels: number[] = ids.map(() => -100)
    for (const turn of turns === 'last' ? [last] : spoken) {
      const before = render(list.slice(0, turn), true)
      const upTo = turn === last ? full : render(list.slice(0, turn + 1), false)
      if (!upTo.startsWith(before) || !full.startsWith(upTo))
        throw new Error(
          `${place}: the chat template is not prefix-stable: it writes message ${turn + 1} of ${last + 1} differently when other messages follow or the generation prompt precedes, so its place is not certain; use turns: 'last', or split the conversation`,
        )
      const end = turn === last ? ids.length : count(upTo)
      for (let i = count(before); i < end; i++) labels[i] = ids[i]!
    }
    yield { ids, labels }
  })
}
