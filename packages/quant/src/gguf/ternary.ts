import { awayFromZero, f, putHalf } from './numbers.ts'

/** TQ1_0 and TQ2_0: −d, 0 and d, where d is the block's largest magnitude; codes 0, 1, 2. d's place is given back written. */
export const ternaryCodes = (
  x: Float32Array,
  from: number,
  codes: Uint8Array,
  out: Uint8Array,
  place: number,
): void => {
  let most = 0
  for (let i = from; i < from + 256; i++) most = Math.max(most, Math.abs(x[i]!))
  const inverse = most ? f(1 / most) : 0
  putHalf(out, place, most)
  for (let i = 0; i < 256; i++) codes[i] = awayFromZero(f(x[from + i]! * inverse)) + 1
}
