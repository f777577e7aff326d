import type { Rng } from '@weftjs/spec'

export interface SamplingOptions {
  /** 0 takes the likeliest token; otherwise logits are divided by it */
  readonly temperature?: number
  /** keep the k likeliest tokens (and those equal to the k-th) */
  readonly topK?: number
  /** keep the fewest tokens whose probabilities reach p  —  Holtzman et al., arXiv:1904.09751 */
  readonly topP?: number
  /** logits of tokens that have occurred are divided by it where positive, multiplied where negative  —  Keskar et al., arXiv:1909.05858 */
  readonly repetitionPenalty?: number
}

/** @throws Error that names the option, what was found and what is allowed */
export const checkSampling = ({ temperature = 0, topK, topP, repetitionPenalty = 1 }: SamplingOptions): void => {
  const refuse = (name: string, found: unknown, wanted: string): never => {
    throw new Error(`${name} must be ${wanted}, found ${JSON.stringify(found) ?? String(found)}`)
  }
  if (!(Number.isFinite(temperature) && temperature >= 0)) refuse('temperature', temperature, 'a number ≥ 0')
  if (topK !== undefined && !(Number.isInteger(topK) && topK >= 1)) refuse('topK', topK, 'an integer ≥ 1')
  if (topP !== undefined && !(topP > 0 && topP <= 1)) refuse('topP', topP, 'in (0, 1]')
  if (!(Number.isFinite(repetitionPenalty) && repetitionPenalty > 0))
    refuse('repetitionPenalty', repetitionPenalty, 'a number > 0')
}

/** index of the greatest; the first of equals */
export const greatest = (x: ArrayLike<number>): number => {
  let best = 0
  for (let i = 1; i < x.length; i++) if (x[i]! > x[best]!) best = i
  return best
}

/** ln Σ eˣ */
export const logSumExp = (x: ArrayLike<number>): number => {
  const top = x[greatest(x)]!
  let sum = 0
  for (let i = 0; i < x.length; i++) sum += Math.exp(x[i]! - top)
  return top + Math.log(sum)
}

/** ids and log-probabilities of the n likeliest tokens, likeliest first; equals by id */
export const likeliest = (logits: Float32Array, n: number): { id: number; logprob: number }[] => {
  const z = logSumExp(logits)
  const floor = kth(logits, n)
  const ids: number[] = []
  for (let i = 0; i < logits.length; i++) if (logits[i]! >= floor) ids.push(i)
  ids.sort((a, b) => logits[b]! - logits[a]! || a - b)
  return ids.slice(0, n).map((id) => ({ id, logprob: logits[id]! - z }))
}

/** the k-th greatest value */
const kth = (x: Float32Array, k: number): number => (k >= x.length ? -Infinity : x.slice().sort()[x.length - k]!)

/** x with the logits of `seen` pushed down, in place */
export const penalize = (x: Float32Array, seen: Iterable<number>, penalty: number): Float32Array => {
  if (penalty !== 1) for (const id of seen) x[id] = x[id]! < 0 ? x[id]! * penalty : x[id]! / penalty
  return x
}

/**
 * The next token of one text from its logits [V]: repetition penalty, temperature, top-k, top-p in transformers' order,
 * then the inverse of the cumulative distribution in the order of ids. Draws one number of `rng` unless greedy.
 */
export const sample = (
  logits: Float32Array,
  seen: Iterable<number>,
  rng: Rng,
  { temperature = 0, topK, topP, repetitionPenalty = 1 }: SamplingOptions = {},
): number => {
  const x = penalize(logits.slice(), seen, repetitionPenalty)
  if (temperature === 0) return greatest(x)
  const top = x[greatest(x)]!
  const floor = topK === undefined ? -Infinity : kth(x, topK)
  // relative to the greatest, in double precision: a tiny temperature neither overflows nor loses the order
  const p = Float64Array.from(x, (z) => (z >= floor ? Math.exp((z - top) / temperature) : 0))
  if (topP !== undefined && topP < 1) keepNucleus(p, topP)
  let total = 0
  for (const v of p) total += v
  const at = rng.numbers(1)[0]! * total
  let sum = 0
  let chosen = -1
  for (let i = 0; i < p.length; i++) {
    if (!p[i]) continue
    chosen = i
    sum += p[i]!
    if (sum > at) break
  }
  return chosen
}

/** zero all but the fewest weights, greatest first, that reach the share `share` of the sum; at least one stays */
const keepNucleus = (p: Float64Array, share: number): void => {
  const order: number[] = []
  let total = 0
  for (let i = 0; i < p.length; i++)
    if (p[i]! > 0) {
      order.push(i)
      total += p[i]!
    }
  order.sort((a, b) => p[b]! - p[a]! || a - b)
  let sum = 0
  for (const i of order) {
    const reached = sum >= share * total
    sum += p[i]!
    if (reached) p[i] = 0
  }
}
