import {
  abs,
  add,
  clipByValue,
  concat,
  div,
  fill,
  less,
  logicalAnd,
  maximum,
  mean,
  mul,
  pow,
  relu,
  round,
  sign,
  slice,
  sub,
  type Tensor,
  tidy,
  where,
} from '@weftjs/tensor'
import { onHeap } from './hqq-heap.ts'

export interface HalfQuadraticOptions {
  /** largest code; codes begin at 0 */
  readonly most: number
  /** along which the numbers of a group lie */
  readonly axis: 0 | 1
  /**
   * `best` keeps for each group the zero point with the smallest mean |W − W_r| of all that were met, the first included,
   * and lets β grow. `last` is what the library of the authors does: β stays, and once the mean error of the whole matrix
   * no longer falls, the zero point that comes after the worse one is kept.
   */
  readonly zero?: 'best' | 'last'
  readonly iterations?: number
  /** p of the norm ‖W − W_r‖ₚ, at most 1 */
  readonly norm?: number
  readonly beta?: number
  /** β is multiplied by it after each iteration (`best`) */
  readonly kappa?: number
}
/** numbers that are solved for together: some twenty tensors of that size lie in memory meanwhile */
const AT_ONCE = 2 ** 18

export interface Rounded {
  /** whole numbers 0 ... most, of the shape of W */
  readonly codes: Tensor
  /** of the shape of the zero points that came in */
  readonly zero: Tensor
}

/** clamp(round(W·s + z), 0, most) */
export const roundTo = (w: Tensor, scale: Tensor, zero: Tensor, most: number): Tensor =>
  clipByValue(round(add(mul(w, scale), zero)), 0, most)

/** sign(x)·relu(|x| − |x|^(p−1)/β), the proximal step of ‖·‖ₚ */
const shrink = (x: Tensor, norm: number, beta: number): Tensor => {
  const size = maximum(abs(x), 1e-30) // 0 to a negative power is no number everywhere
  return mul(relu(sub(size, mul(pow(size, norm - 1), 1 / beta))), sign(x))
}

/**
 * min over z of ‖W − (Q − z)/s‖ₚ with Q = clamp(round(W·s + z)), by halves: E = shrink(W − W_r), then
 * z = mean(Q − (W − E)·s)  —  Badri & Shaji, 2023 (Half-Quadratic Quantization).
 * w [G, group] or [group, G], scale and zero with 1 along `axis`; W is multiplied by the scale. Nothing is read on the way,
 * and on the wasm heap a group is solved while it is in the cache.
 */
export const halfQuadratic = (w: Tensor, scale: Tensor, zero: Tensor, options: HalfQuadraticOptions): Rounded =>
  tidy(() => {
    const all = { zero: 'best', iterations: 20, norm: 0.7, beta: 10, kappa: 1.01, ...options } as const
    return (onHeap(w, scale, zero, all) ?? inParts(w, scale, zero, all)) as never
  }) as unknown as Rounded

const inParts = (w: Tensor, scale: Tensor, zero: Tensor, options: Required<HalfQuadraticOptions>): Rounded => {
  const along = options.axis ? 0 : 1
  const [count, each] = [w.shape[along]!, w.shape[options.axis]!]
  const step = Math.max(1, Math.floor(AT_ONCE / each))
  // groups know nothing of each other, but for the library's rule when to stop
  if (options.zero === 'last' || count <= step) return solved(w, scale, zero, options)
  const parts: Rounded[] = []
  for (let from = 0; from < count; from += step) {
    const n = Math.min(step, count - from)
    const cut = (t: Tensor): Tensor =>
      along ? slice(t, [0, from], [t.shape[0]!, n]) : slice(t, [from, 0], [n, t.shape[1]!])
    parts.push(tidy(() => solved(cut(w), cut(scale), cut(zero), options) as never) as unknown as Rounded)
  }
  return {
    codes: concat(
      parts.map((p) => p.codes),
      along,
    ),
    zero: concat(
      parts.map((p) => p.zero),
      along,
    ),
  }
}

const solved = (
  w: Tensor,
  scale: Tensor,
  zero: Tensor,
  { most, axis, zero: keeps, iterations, norm, beta, kappa }: Required<HalfQuadraticOptions>,
): Rounded => {
  let z = zero
  const best = keeps === 'best'
  // of each group, or of the matrix
  let kept = z
  let least: Tensor = fill(best ? z.shape : [1, 1], 3e38)
  let running: Tensor = less(fill([1, 1], 0), 1)
  for (let i = 0, b = beta; i < iterations; i++) {
    const q = roundTo(w, scale, z, most)
    const restored = div(sub(q, z), scale)
    const rest = sub(w, restored)
    const error = best ? mean(abs(rest), axis, true) : mean(abs(rest), undefined, true)
    const better = less(error, least)
    if (best) kept = where(better, z, kept)
    const next = mean(sub(q, mul(sub(w, shrink(rest, norm, b)), scale)), axis, true)
    z = best ? next : where(running, next, z)
    running = logicalAnd(running, better)
    least = where(better, error, least)
    if (best) b *= kappa
  }
  if (!best) return { codes: roundTo(w, scale, z, most), zero: z }
  const error = mean(abs(sub(w, div(sub(roundTo(w, scale, z, most), z), scale))), axis, true)
  kept = where(less(error, least), z, kept)
  return { codes: roundTo(w, scale, kept, most), zero: kept }
}
