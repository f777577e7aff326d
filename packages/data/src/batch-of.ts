import type { Stage } from '@weftjs/spec'
import { stage, whole } from './lazy.ts'

export interface BatchOfOptions {
  /** what becomes of a last group of fewer than n */
  last?: 'keep' | 'drop'
}

/** Items in groups of n. */
export const batchOf = <A>(n: number, { last = 'keep' }: BatchOfOptions = {}): Stage<A, readonly A[]> => {
  whole('batchOf', n)
  return stage(async function* (items) {
    let group: A[] = []
    for await (const item of items) {
      group.push(item)
      if (group.length < n) continue
      yield group
      group = []
    }
    if (group.length > 0 && last === 'keep') yield group
  })
}
