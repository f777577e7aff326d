import type { Stage } from '@weftjs/spec'
import { stage, whole } from './lazy.ts'

/** All but the first n items. */
export const skip = <A>(n: number): Stage<A> => {
  whole('skip', n, 0)
  return stage(async function* (items) {
    let seen = 0
    for await (const item of items) if (seen++ >= n) yield item
  })
}
