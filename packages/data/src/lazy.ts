import type { Stage } from '@weftjs/spec'

/** An async iterable that starts `run` afresh each time it is iterated; closing it closes what `run` reads. */
export const lazy = <T>(run: () => AsyncGenerator<T, void, undefined>): AsyncIterable<T> => ({
  [Symbol.asyncIterator]: run,
})

/** A stage from a generator over its items. */
export const stage =
  <A, B>(run: (items: AsyncIterable<A>) => AsyncGenerator<B, void, undefined>): Stage<A, B> =>
  (items) =>
    lazy(() => run(items))

/** An array (or any iterable) as the start of a pipeline. */
export const from = <T>(items: Iterable<T>): AsyncIterable<T> =>
  lazy(async function* () {
    yield* items
  })

/** All items in an array: the end of a pipeline that fits in memory. */
export const collect = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** Throws unless `value` is a whole number of at least `least`. */
export const whole = (what: string, value: number, least = 1): number => {
  if (!Number.isSafeInteger(value) || value < least)
    throw new Error(`${what}: found ${value}, want a whole number of at least ${least}`)
  return value
}
