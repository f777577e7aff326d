import type { Rng, RunContext, Tensor, Weight } from '@weftjs/spec'
import { div, mul } from '@weftjs/tensor'

/** each input of w is zero with chance p, and the rest 1/(1−p) times as large */
export const dropped = (w: Weight, p: number, rng: Rng): Weight => ({
  ...w,
  apply: (x) => w.apply(mul(x, div(rng.bernoulli(x.shape, 1 - p), 1 - p))),
})

/** the same while training, where there is noise; else w itself */
export const droppedWhile = ({ training, rng }: RunContext, p: number, w: Weight): Weight =>
  training && p && rng ? dropped(w, p, rng) : w

/** one number for all of w, 0 with chance p, and not scaled up otherwise: the whole of it is left out (LyCORIS' module_dropout) */
export const kept = ({ training, rng }: RunContext, p: number): Tensor | undefined =>
  training && p && rng ? rng.fork('module').bernoulli([], 1 - p) : undefined

/** @throws Error for a chance outside [0, 1) */
export const mustBeChance = (what: string, p: number): void => {
  if (!(p >= 0 && p < 1)) throw new Error(`${what} must be in [0, 1), found ${p}`)
}
