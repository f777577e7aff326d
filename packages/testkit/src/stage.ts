import type { Stage } from '@weftjs/spec'
import { type Check, must } from './check.ts'

export interface StageSuite<A> {
  /** items to feed; at least 8 */
  readonly items: readonly A[]
  /** how many items beyond those it needs for its output it may hold: 0 for a map, the size of a shuffle's buffer */
  readonly ahead?: number
  /** the most items that one output takes, 1 for a map */
  readonly per?: number
  /** it ends on its own before its source does (take) */
  readonly endsEarly?: boolean
  /** a source without items is an error to it */
  readonly refusesNothing?: boolean
}

interface Watched<A> extends AsyncIterable<A> {
  readonly pulled: () => number
  readonly opened: () => number
  readonly closed: () => number
}

/** a source that counts; it fails after `breakAfter` items */
const watch = <A>(items: readonly A[], breakAfter = Number.POSITIVE_INFINITY): Watched<A> => {
  let [pulled, opened, closed] = [0, 0, 0]
  return {
    pulled: () => pulled,
    opened: () => opened,
    closed: () => closed,
    [Symbol.asyncIterator]: () => {
      opened++
      let [at, done] = [0, false]
      const close = (): void => {
        if (!done) closed++
        done = true
      }
      return {
        next: async () => {
          if (at >= breakAfter) {
            close()
            throw new Error('the source broke')
          }
          if (done || at >= items.length) {
            close()
            return { done: true, value: undefined }
          }
          pulled++
          return { done: false, value: items[at++]! }
        },
        return: async () => {
          close()
          return { done: true, value: undefined }
        },
      }
    },
  }
}

const drain = async <B>(items: AsyncIterable<B>, most = Number.POSITIVE_INFINITY): Promise<B[]> => {
  const found: B[] = []
  if (most === 0) return found
  for await (const item of items) {
    found.push(item)
    if (found.length >= most) break
  }
  return found
}

/** The laws of a stage: lazy, no further ahead than it must be, and its source is closed however it ends. */
export const checkStage = <A, B>(
  make: () => Stage<A, B>,
  { items, ahead = 0, per = 1, endsEarly = false, refusesNothing = false }: StageSuite<A>,
): readonly Check[] => [
  {
    name: 'pulls nothing before it is asked',
    run: async () => {
      const source = watch(items)
      const stage = make()(source)
      await Promise.resolve()
      must(source.pulled() === 0 && source.opened() === 0, `${source.pulled()} items pulled, nobody asked`)
      void stage
    },
  },
  {
    name: 'pulls no more than its output needs',
    run: async () => {
      const all = (await drain(make()(watch(items)))).length
      for (const wanted of [1, 2, 3]) {
        if (wanted >= all) break
        const source = watch(items)
        await drain(make()(source), wanted)
        const most = wanted * per + ahead
        must(
          source.pulled() <= most,
          `${source.pulled()} items pulled for ${wanted} outputs, at most ${most} are needed`,
        )
      }
    },
  },
  {
    name: 'closes its source when its consumer stops',
    run: async () => {
      const source = watch(items)
      await drain(make()(source), 1)
      must(source.closed() === source.opened(), `${source.opened() - source.closed()} sources stay open`)
      must(source.opened() >= 1, 'the source was never read')
    },
  },
  {
    name: 'closes its source at the end',
    run: async () => {
      const source = watch(items)
      await drain(make()(source))
      must(source.closed() === source.opened(), `${source.opened() - source.closed()} sources stay open`)
      must(endsEarly || source.pulled() >= items.length, `ended after ${source.pulled()} of ${items.length} items`)
    },
  },
  {
    name: refusesNothing ? 'an empty source is an error, as it declares' : 'an empty source is an end, not an error',
    run: async () => {
      const run = drain(make()(watch<A>([])))
      if (!refusesNothing) await run
      else
        must(
          await run.then(
            () => false,
            () => true,
          ),
          'an empty source went through',
        )
    },
  },
  {
    name: "passes its source's error on",
    run: async () => {
      const source = watch(items, endsEarly ? 0 : Math.min(3, items.length - 1))
      let message = ''
      try {
        await drain(make()(source))
      } catch (error) {
        message = (error as Error).message
      }
      must(message.includes('the source broke'), `the error was ${message ? `'${message}'` : 'swallowed'}`)
    },
  },
  {
    name: 'gives the same again: no state is carried from one run to the next',
    run: async () => {
      const stage = make()
      const [a, b] = [await drain(stage(watch(items))), await drain(make()(watch(items)))]
      must(text(a) === text(b), 'two stages made alike differ')
      const again = await drain(stage(watch(items)))
      must(a.length === again.length, `${a.length} items the first time, ${again.length} the second`)
    },
  },
  {
    name: 'leaves the items that it is given as they are',
    run: async () => {
      const before = text(items)
      await drain(make()(watch(items)))
      must(text(items) === before, 'an item was changed')
    },
  },
]

const text = (value: unknown): string =>
  JSON.stringify(value, (_, v: unknown) => (ArrayBuffer.isView(v) ? Array.from(v as Int32Array) : v))
