import type { Example, Stage } from '@weftjs/spec'
import { stage, whole } from './lazy.ts'

/** What becomes of an example that is too long: its head is kept, all of it in pieces, or none of it. */
export type Long = 'truncate' | 'split' | 'drop'

export interface TruncateOptions {
  long?: Long
  /** called once, at the first example that is too long */
  note?: (note: string) => void
}

/** Examples of at most `length` tokens; empty ones are left out. */
export const truncate = (length: number, { long = 'truncate', note }: TruncateOptions = {}): Stage<Example> => {
  whole('truncate: length', length)
  let told = false
  return stage(async function* (items) {
    let number = 0
    for await (const example of items) {
      number++
      const { ids, labels } = example
      if (ids.length !== labels.length)
        throw new Error(`example ${number}: ${labels.length} labels for ${ids.length} ids; give one label for each id`)
      if (ids.length > length && !told) {
        told = true
        note?.(
          `example ${number} has ${ids.length} tokens, more than length ${length}: long examples are handled by "${long}" (said once)`,
        )
      }
      if (ids.length === 0 || (ids.length > length && long === 'drop')) continue
      if (ids.length <= length) yield example
      else
        for (let at = 0; at < (long === 'split' ? ids.length : 1); at += length)
          yield { ids: ids.slice(at, at + length), labels: labels.slice(at, at + length) }
    }
  })
}
