import type { Stage } from '@weftjs/spec'
import { stage, whole } from './lazy.ts'

/**
 * The items again and again, `epochs` times; `each(epoch)` gives a stage for one pass, for instance a shuffle of its own:
 * repeat(3, (epoch) => shuffle(rng.fork(epoch))). The source must be one that can be read anew; throws where a later pass is empty.
 */
export const repeat = <A, B = A>(
  epochs: number = Number.POSITIVE_INFINITY,
  each: (epoch: number) => Stage<A, B> = () => (items) => items as unknown as AsyncIterable<B>,
): Stage<A, B> => {
  if (epochs !== Number.POSITIVE_INFINITY) whole('repeat: epochs', epochs, 0)
  return stage(async function* (items) {
    for (let epoch = 0; epoch < epochs; epoch++) {
      let count = 0
      for await (const item of each(epoch)(items)) {
        count++
        yield item
      }
      if (count > 0) continue
      if (epoch > 0)
        throw new Error(
          `repeat: pass ${epoch + 1} found no items; the source can be read only once, keep it in an array`,
        )
      return
    }
  })
}
