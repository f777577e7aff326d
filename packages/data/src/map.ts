import type { Stage } from '@weftjs/spec'
import { stage } from './lazy.ts'

/** f of each item, with its number from 0. */
export const map = <A, B>(f: (item: A, index: number) => B | Promise<B>): Stage<A, B> =>
  stage(async function* (items) {
    let index = 0
    for await (const item of items) yield await f(item, index++)
  })
