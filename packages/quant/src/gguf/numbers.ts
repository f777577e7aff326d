import { F16 } from '../kernels/half.ts'

/** Numbers in the bytes of a block, and float32 arithmetic as ggml's, which rounds after every operation. */
export const f: (v: number) => number = Math.fround
export const TENTH: number = f(0.1)
/** a group whose largest magnitude is below is taken for zeros */
export const TINY: number = f(1e-15)

/** the float16 at a byte */
export const half = (bytes: Uint8Array, at: number): number => F16.from(bytes[at]! | (bytes[at + 1]! << 8))
/** rounds to float16, at most ±65504 where ggml would write an infinity; gives back what was written */
export const putHalf = (bytes: Uint8Array, at: number, v: number): number => {
  const bits = Number.isNaN(v) ? 0 : F16.to(v)
  bytes[at] = bits & 255
  bytes[at + 1] = bits >> 8
  return F16.from(bits)
}

const ROUND = 1.5 * 2 ** 23
/** to the nearest whole number, halves to even, of a float32 of at most 2²² */
export const nearest = (v: number): number => f(v + ROUND) - ROUND
/** the same within bounds; NaN gives the lower */
export const within = (least: number, most: number, v: number): number =>
  v > least ? nearest(Math.min(v, most)) : least
/** halves away from zero */
export const awayFromZero = (v: number): number => (v < 0 ? -Math.floor(0.5 - v) : Math.floor(v + 0.5))

/** Σx² of n numbers */
export const squares = (x: Float32Array, from: number, n: number): number => {
  let sum = 0
  for (let i = from; i < from + n; i++) sum = f(sum + f(x[i]! * x[i]!))
  return sum
}

/** two codes a byte for 32 numbers: number j in the low half and j + 16 in the high one */
export const putNibbles = (codes: Uint8Array, out: Uint8Array, at: number, from = 0): void => {
  for (let j = 0; j < 16; j++) out[at + j] = (codes[from + j]! & 15) | ((codes[from + j + 16]! & 15) << 4)
}
/** s times the level of each code of n bytes: those in the low halves, then those in the high ones */
export const levelNibbles = (
  bytes: Uint8Array,
  at: number,
  n: number,
  levels: readonly number[],
  s: number,
  out: Float32Array,
  to: number,
): void => {
  for (let i = 0; i < n; i++) {
    const byte = bytes[at + i]!
    out[to + i] = s * levels[byte & 15]!
    out[to + n + i] = s * levels[byte >> 4]!
  }
}
/** four codes a byte for 256 numbers: of each 128, number l of every 32 share a byte */
export const putPairs = (codes: Uint8Array, out: Uint8Array, at: number): void => {
  for (let i = 0; i < 64; i++) {
    const first = 128 * (i >> 5) + (i & 31)
    let byte = 0
    for (let j = 0; j < 4; j++) byte |= (codes[first + 32 * j]! & 3) << (2 * j)
    out[at + i] = byte
  }
}
