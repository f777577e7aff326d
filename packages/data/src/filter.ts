import type { Stage } from '@weftjs/spec'
import { stage } from './lazy.ts'

/** The items that pass the test. */
export const filter = <A>(test: (item: A, index: number) => boolean | Promise<boolean>): Stage<A> =>
  stage(async function* (items) {
    let index = 0
    for await (const item of items) if (await test(item, index++)) yield item
  })
