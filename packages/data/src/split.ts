import type { Rng, Stage } from '@weftjs/spec'
import { stage } from './lazy.ts'

/**
 * Two stages that part a stream: each run of 1/fraction items gives one, chosen at random, to `validation`, the others to `train`.
 * Both stages draw the same numbers, so no item is in both and none in neither; `fraction` lies in [0, 0.5].
 */
export const split = <A>(fraction: number, rng: Rng): { train: Stage<A>; validation: Stage<A> } => {
  if (!(fraction >= 0 && fraction <= 0.5))
    throw new Error(`split: found fraction ${fraction}, want the validation part, from 0 to 0.5`)
  const part = (validation: boolean): Stage<A> =>
    stage(async function* (items) {
      const stream = rng.fork('split')
      let index = 0
      let block = 0
      let end = 0
      let chosen = -1
      for await (const item of items) {
        if (fraction > 0 && index === end) {
          end = Math.floor(++block / fraction)
          chosen = index + Math.floor(stream.numbers(1)[0]! * (end - index))
        }
        if ((index++ === chosen) === validation) yield item
      }
    })
  return { train: part(false), validation: part(true) }
}
