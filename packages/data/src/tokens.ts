import type { Tokenizer } from '@weftjs/spec'

/** What a tokenizer adds before and after a text, found by asking it. */
export const frame = (tokenizer: Tokenizer): { before: readonly number[]; after: readonly number[] } => {
  const bare = tokenizer.encode('a', { special: false })
  const full = tokenizer.encode('a', { special: true })
  for (let start = 0; start + bare.length <= full.length; start++)
    if (bare.every((id, i) => full[start + i] === id))
      return { before: full.slice(0, start), after: full.slice(start + bare.length) }
  return { before: [], after: [] }
}

/** A document as the model sees it: what the tokenizer puts before a text, the text, and its end (EOS where the tokenizer adds none). */
export const framed = (tokenizer: Tokenizer): ((text: string) => number[]) => {
  const { before, after } = frame(tokenizer)
  const end = after.length > 0 || tokenizer.eos === undefined ? after : [tokenizer.eos]
  return (text) => {
    const ids = tokenizer.encode(text, { special: false })
    const ended = end.length === 1 && ids.at(-1) === end[0]
    return [...before, ...ids, ...(ended ? [] : end)]
  }
}

/** Whether `head` begins `ids`. */
export const begins = (head: readonly number[], ids: readonly number[]): boolean =>
  head.length <= ids.length && head.every((id, i) => ids[i] === id)
