import type { Stage } from '@weftjs/spec'
import { stage, whole } from './lazy.ts'

/** The first n items; pulls no more than those. */
export const take = <A>(n: number): Stage<A> => {
  if (n !== Number.POSITIVE_INFINITY) whole('take', n, 0)
  return stage(async function* (items) {
    if (n === 0) return
    let taken = 0
    for await (const item of items) {
      yield item
      if (++taken >= n) return
    }
  })
}
