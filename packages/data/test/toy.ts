import type { Message, Tokenizer } from '@weftjs/spec'

/** Bytes as ids 0-255, then BOS 256, EOS 257, PAD 258, and the marks of turns 259 (<|) and 260 (|>). */
export const BOS = 256
export const EOS = 257
export const PAD = 258
const MARKS: readonly [string, number][] = [
  ['<|', 259],
  ['|>', 260],
]

/** A tokenizer of bytes; `chat` writes <|role|>content\n for each message. */
export const bytes = (options: Partial<Tokenizer> = {}): Tokenizer => ({
  vocabulary: 261,
  bos: BOS,
  eos: EOS,
  pad: PAD,
  encode: (text, { special = false } = {}) => {
    const ids: number[] = special ? [BOS] : []
    for (let rest = text; rest !== ''; ) {
      const mark = MARKS.find(([m]) => rest.startsWith(m))
      if (mark !== undefined) {
        ids.push(mark[1])
        rest = rest.slice(mark[0].length)
        continue
      }
      const character = String.fromCodePoint(rest.codePointAt(0)!)
      ids.push(...new TextEncoder().encode(character))
      rest = rest.slice(character.length)
    }
    return ids
  },
  decode: (ids) =>
    ids.map((id) => MARKS.find(([, i]) => i === id)?.[0] ?? (id < 256 ? String.fromCharCode(id) : '')).join(''),
  chat: (messages: readonly Message[], { generationPrompt = false } = {}) =>
    messages.map(({ role, content }) => `<|${role}|>${content}\n`).join('') + (generationPrompt ? '<|assistant|>' : ''),
  ...options,
})

/** A tokenizer of words, where a space belongs to the word after it: joined texts do not always begin with the tokens of their heads. */
export const words = (): Tokenizer => {
  const known: string[] = ['<s>', '</s>']
  const id = (word: string): number => {
    if (!known.includes(word)) known.push(word)
    return known.indexOf(word)
  }
  return {
    vocabulary: 1000,
    eos: 1,
    encode: (text) => (text.match(/ ?[^ ]+| +/g) ?? []).map(id),
    decode: (ids) => ids.map((i) => known[i]).join(''),
  }
}

/** Utf-8 of a text cut at the given places (any numbers; taken modulo the length). */
export const cut = (bytesOf: Uint8Array, places: readonly number[]): Uint8Array[] => {
  const at = [...new Set(places.map((p) => p % (bytesOf.length + 1)))].sort((a, b) => a - b)
  return [0, ...at].map((start, i) => bytesOf.subarray(start, at[i] ?? bytesOf.length))
}

export const stream = async function* <T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items
}

export const utf = (text: string): Uint8Array => new TextEncoder().encode(text)

/** A source that counts what was pulled and notes that it was closed. */
export const watched = <T>(items: readonly T[]): AsyncIterable<T> & { pulled: number; closed: number } => {
  const state = {
    pulled: 0,
    closed: 0,
    async *[Symbol.asyncIterator]() {
      try {
        for (const item of items) {
          state.pulled++
          yield item
        }
      } finally {
        state.closed++
      }
    },
  }
  return state
}
