import type { Rng, Stage } from '@weftjs/spec'
import { stage, whole } from './lazy.ts'

export interface ShuffleOptions {
  /** items held at a time; the default holds all, and then every order is equally likely */
  buffer?: number
}

/** A new array in random order (Fisher and Yates, Durstenfeld's form, doi:10.1145/364520.364540). Draws from `rng`. */
export const shuffled = <A>(items: readonly A[], rng: Rng): A[] => {
  const out = [...items]
  const u = rng.numbers(Math.max(0, out.length - 1))
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(u[i - 1]! * (i + 1))
    const item = out[i]!
    out[i] = out[j]!
    out[j] = item
  }
  return out
}

/**
 * Items in random order, the same for the same `rng` each time the result is iterated (it works on a fork and leaves `rng` as it is).
 * With a finite `buffer` an item leaves when a later one takes its place, so a stream of any length can be shuffled, if only nearby.
 */
export const shuffle = <A>(rng: Rng, { buffer = Number.POSITIVE_INFINITY }: ShuffleOptions = {}): Stage<A> => {
  if (buffer !== Number.POSITIVE_INFINITY) whole('shuffle: buffer', buffer)
  return stage(async function* (items) {
    const stream = rng.fork('shuffle')
    const held: A[] = []
    let u = new Float64Array(0)
    let drawn = 0
    for await (const item of items) {
      if (held.length < buffer) {
        held.push(item)
        continue
      }
      if (drawn === u.length) {
        u = Float64Array.from(stream.numbers(1024))
        drawn = 0
      }
      const slot = Math.floor(u[drawn++]! * buffer)
      const out = held[slot]!
      held[slot] = item
      yield out
    }
    yield* shuffled(held, stream)
  })
}
