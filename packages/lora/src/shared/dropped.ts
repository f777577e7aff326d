import type { Rng, RunContext, Weight } from '@weftjs/spec'
import { div, maximum, mean, mul } from '@weftjs/tensor'
import { scale, scaleRows } from '@weftjs/weight'

/** each input of w is zero with chance p, and the rest 1/(1−p) times as large */
export const dropped = (w: Weight, p: number, rng: Rng): Weight => ({
  ...w,
  apply: (x) => w.apply(mul(x, div(rng.bernoulli(x.shape, 1 - p), 1 - p))),
})

/** the same while training, where there is noise; else w itself */
export const droppedWhile = ({ training, rng }: RunContext, p: number, w: Weight): Weight =>
  training && p && rng ? dropped(w, p, rng) : w

export interface Lycoris {
  /** chance that an output of the update is dropped while training */
  readonly rankDropout?: number
  /** chance that the whole update is left out of a training step */
  readonly moduleDropout?: number
}
/** LyCORIS' two ways to drop: outputs of w, the rest larger by their share where `scaled`; and all of w, the rest as it is */
export const lycorisDropped = (
  { training, rng }: RunContext,
  { rankDropout = 0, moduleDropout = 0 }: Lycoris,
  scaled: boolean,
  w: Weight,
): Weight => {
  if (!training || !rng) return w
  let left = w
  if (rankDropout) {
    const mask = rng.fork('rows').bernoulli([w.shape[0]], 1 - rankDropout) // [out]
    left = scaleRows(scaled ? div(mask, maximum(mean(mask), 1 / w.shape[0])) : mask, left)
  }
  return moduleDropout ? scale(rng.fork('module').bernoulli([], 1 - moduleDropout), left) : left
}

/** 1 for blocks that turn and 0 for ⌊p·n⌋ of them, drawn anew: multiplicative dropout of rotations */
export const turning = (rng: Rng, n: number, p: number): number[] => {
  const order = rng.numbers(n)
  const still = new Set([...order.keys()].sort((a, b) => order[a]! - order[b]!).slice(0, Math.floor(p * n)))
  return [...order].map((_, i) => (still.has(i) ? 0 : 1))
}

/** @throws Error for a chance outside [0, 1) */
export const mustBeChance = (what: string, p: number): void => {
  if (!(p >= 0 && p < 1)) throw new Error(`${what} must be in [0, 1), found ${p}`)
}
