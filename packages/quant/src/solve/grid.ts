import { roundEven } from '../kernels/loop.ts'

/** An even grid of few bits: s·(q − z) with codes q of 0 to 2ᵇ − 1. In float32, as torch computes it. */
export interface Grid {
  readonly bits: number
  /** z is the middle of the codes, and the grid reaches as far on both sides as the largest magnitude */
  readonly symmetric: boolean
}

const { fround } = Math

/** s and z for the numbers [from, to) of x; zero is always one of the values; all zeros count as a range of −1 to 1 */
export const fitGrid = (
  x: ArrayLike<number>,
  from: number,
  to: number,
  { bits, symmetric }: Grid,
): [scale: number, zero: number] => {
  let [lo, hi] = [0, 0]
  for (let i = from; i < to; i++) {
    const v = x[i]!
    if (v < lo) lo = v
    else if (v > hi) hi = v
  }
  ;[lo, hi] = [fround(lo), fround(hi)]
  const most = 2 ** bits - 1
  if (lo === 0 && hi === 0) [lo, hi] = [-1, 1]
  if (symmetric) return [fround((2 * Math.max(-lo, hi)) / most), (most + 1) / 2]
  const scale = fround(fround(hi - lo) / most)
  return [scale, scale > 0 ? roundEven(fround(-lo / scale)) : 0]
}

/** the code of the value nearest to v */
export const codeOf = (v: number, scale: number, zero: number, most: number): number =>
  scale > 0 ? Math.max(0, Math.min(most, roundEven(fround(fround(v) / scale)) + zero)) : zero

/** what the code stands for */
export const valueAt = (code: number, scale: number, zero: number): number => fround(scale * (code - zero))
