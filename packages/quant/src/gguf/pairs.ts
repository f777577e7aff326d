import { fitMin, fitPositive, type MinSearch, weigh } from './fit.ts'
import { f, half, nearest, putHalf, squares, within } from './numbers.ts'
import type { Importance } from './types.ts'

/** Q4_K and Q5_K: 8 groups of 32 numbers d·s·q − dmin·m, with s and m of 6 bits packed in 12 bytes. */

const weights = new Float32Array(32)
const scales = new Float32Array(8)
const mins = new Float32Array(8)
const sums = new Float32Array(8)
const levels = new Uint8Array(8)
const shifts = new Uint8Array(8)

/** s of group b, whose 12 bytes are at `at` */
const scaleAt = (bytes: Uint8Array, at: number, b: number): number =>
  b < 4 ? bytes[at + b]! & 63 : (bytes[at + b + 4]! & 15) | ((bytes[at + b - 4]! >> 6) << 4)
const minAt = (bytes: Uint8Array, at: number, b: number): number =>
  b < 4 ? bytes[at + b + 4]! & 63 : (bytes[at + b + 4]! >> 4) | ((bytes[at + b]! >> 6) << 4)

const inSixBits = (values: Float32Array, into: Uint8Array): number => {
  const most = Math.max(0, ...values)
  const inverse = most > 0 ? f(63 / most) : 0
  for (let b = 0; b < 8; b++) into[b] = Math.min(63, nearest(f(inverse * values[b]!)))
  return f(most / 63)
}

/** writes the 16 bytes of scales and the 256 codes */
export const quantizePairs = (
  x: Float32Array,
  from: number,
  out: Uint8Array,
  at: number,
  codes: Uint8Array,
  search: MinSearch,
  importance: Importance | undefined,
): void => {
  const power = importance ? f(2 * squares(x, from, 256)) / 256 : 0
  for (let b = 0; b < 8; b++) {
    const start = from + 32 * b
    if (importance) weigh(x, start, 32, importance.columns, importance.at + 32 * b, power, weights)
    else {
      const size = f(Math.sqrt(squares(x, start, 32) / 32))
      for (let i = 0; i < 32; i++) weights[i] = size + Math.abs(x[start + i]!)
    }
    sums[b] = weights.reduce((a, w) => f(a + w), 0)
    const how = importance ? { most: search.most, start: -0.9, delta: 0.05, steps: 36 } : search
    scales[b] = fitMin(x, start, 32, how, weights, codes, 32 * b, mins, b)
  }
  const d = putHalf(out, at, importance ? fitPositive(scales, 63, levels, sums) : inSixBits(scales, levels))
  const least = putHalf(out, at + 2, importance ? fitPositive(mins, 63, shifts, sums) : inSixBits(mins, shifts))
  for (let b = 0; b < 4; b++) {
    const [s, m] = [levels[b + 4]!, shifts[b + 4]!]
    out[at + 4 + b] = levels[b]! | ((s >> 4) << 6)
    out[at + 8 + b] = shifts[b]! | ((m >> 4) << 6)
    out[at + 12 + b] = (s & 15) | ((m & 15) << 4)
  }
  for (let b = 0; b < 8; b++) {
    const s = f(d * levels[b]!)
    if (!s) continue
    const m = f(least * shifts[b]!)
    for (let i = 32 * b; i < 32 * b + 32; i++) codes[i] = within(0, search.most, f(f(x[from + i]! + m) / s))
  }
}

/** numbers of the block from their codes, which `code` takes from its bytes */
export const dequantizePairs = (
  bytes: Uint8Array,
  at: number,
  out: Float32Array,
  to: number,
  code: (b: number, l: number) => number,
): void => {
  const [d, least] = [half(bytes, at), half(bytes, at + 2)]
  for (let b = 0; b < 8; b++) {
    const [s, m] = [f(d * scaleAt(bytes, at + 4, b)), f(least * minAt(bytes, at + 4, b))]
    for (let l = 0; l < 32; l++) out[to + 32 * b + l] = f(s * code(b, l)) - m
  }
}

export const PAIRS_SCALE = `
  let b = e / 32u;
  let k = at + 4u + b % 4u;
  let x = byteAt(k);
  let y = byteAt(k + 4u);
  let z = byteAt(k + 8u);
  let s = select((z & 15u) | ((x >> 6u) << 4u), x & 63u, b < 4u);
  let m = select((z >> 4u) | ((y >> 6u) << 4u), y & 63u, b < 4u);
  return vec2f(halfAt(at) * f32(s), -halfAt(at + 2u) * f32(m));`
