import type { Tokenizer } from '@weftjs/spec'

/** Ids in, text out, piece by piece; all pieces together are the decoded whole. */
export interface TextStream {
  /** the text that has become certain with these ids: whole characters only */
  push(...ids: readonly number[]): string
  /** the rest, where the ids end within a character */
  flush(): string
}

/**
 * Decodes as ids arrive. A character whose bytes are spread over several tokens is given once it is whole. Each piece is
 * decoded behind the tokens of the piece before it, so that rules about a text's beginning (a stripped space) act there only.
 */
export const decoder = (tokenizer: Tokenizer, { skipSpecial = true }: { skipSpecial?: boolean } = {}): TextStream => {
  let before: number[] = []
  let pending: number[] = []
  let given = 0
  const text = (ids: readonly number[]): string => (ids.length ? tokenizer.decode(ids, { skipSpecial }) : '')
  const rest = (all: string): string => {
    const head = text(before).length + given
    return all.length > head ? all.slice(head) : ''
  }
  return {
    push: (...ids) => {
      pending.push(...ids)
      const all = text([...before, ...pending])
      // an unfinished character decodes as one U+FFFD at the end
      const unfinished = all.endsWith('\ufffd')
      const piece = rest(unfinished ? all.slice(0, -1) : all)
      given += piece.length
      if (!unfinished && given > 0) {
        before = pending
        pending = []
        given = 0
      }
      return piece
    },
    flush: () => {
      const piece = rest(text([...before, ...pending]))
      given += piece.length
      return piece
    },
  }
}

/** Text in, text out up to the first of the stop strings. */
export interface StopScan {
  /** what can be shown: never a stop string, nor what may become the beginning of one */
  push(text: string): string
  /** was a stop string found? */
  readonly stopped: boolean
  /** what was held back, once nothing more comes */
  flush(): string
}

/** Cuts a stream of text exactly before the stop string that is complete first, wherever the pieces break. */
export const stopScan = (stops: readonly string[]): StopScan => {
  for (const stop of stops)
    if (typeof stop !== 'string' || !stop)
      throw new Error(`stop must hold non-empty strings, found ${JSON.stringify(stop)}`)
  let held = ''
  let stopped = false
  return {
    get stopped() {
      return stopped
    },
    push: (text) => {
      if (stopped) return ''
      held += text
      // the stop string that is complete first, so that the pieces make no difference
      let end = held.length
      let first = Number.POSITIVE_INFINITY
      for (const stop of stops) {
        const at = held.indexOf(stop)
        if (at < 0 || at + stop.length > first || (at + stop.length === first && at > end)) continue
        stopped = true
        first = at + stop.length
        end = at
      }
      if (!stopped)
        for (const stop of stops)
          for (let n = Math.min(stop.length - 1, held.length); n > 0; n--)
            if (held.endsWith(stop.slice(0, n))) {
              end = Math.min(end, held.length - n)
              break
            }
      const out = held.slice(0, end)
      held = stopped ? '' : held.slice(end)
      return out
    },
    flush: () => {
      const out = held
      held = ''
      return out
    },
  }
}
