import { spread, W, X } from '../lib/fit'

/** Of all families of types: where things lie in a thread's scratch, behind those of lib/fit, and codes put together. */

export const CODES: usize = 2048
export const SCALES: usize = 2304
export const MINS: usize = 2368
export const SUMS: usize = 2432
export const LEVELS: usize = 2496
export const SHIFTS: usize = 2512

/** a thread's part of the scratch */
export function own(scratch: usize, thread: i32): usize {
  return scratch + ((<usize>thread) << 12)
}

/** largest of four */
export function largest(v: v128): f32 {
  const a = f32x4.pmax(v, i32x4.shuffle(v, v, 2, 3, 0, 1))
  const b = f32x4.pmax(a, i32x4.shuffle(a, a, 1, 0, 3, 2))
  return f32x4.extract_lane(b, 0)
}

/** Σx² of n numbers, from the first to the last */
export function squares(x: usize, n: i32): f32 {
  let sum: f32 = 0
  for (let i = 0; i < n; i++, x += 4) {
    const v = load<f32>(x)
    sum += v * v
  }
  return sum
}

/** of n numbers the one of the largest magnitude, the first of those */
export function peakOf(x: usize, n: i32): f32 {
  let peak: f32 = 0
  for (let i = 0; i < n; i++, x += 4) {
    const v = load<f32>(x)
    if (abs<f32>(v) > abs<f32>(peak)) peak = v
  }
  return peak
}

export function nibbles(low: v128, high: v128): v128 {
  return v128.or(v128.and(low, i8x16.splat(15)), i8x16.shl(high, 4))
}

/** to the nearest whole number, halves away from zero */
function awayFromZero(v: v128): v128 {
  const t = f32x4.trunc(v)
  const more = f32x4.ge(f32x4.abs(f32x4.sub(v, t)), f32x4.splat(0.5))
  const one = v128.bitselect(v, f32x4.splat(1), i32x4.splat(0x80000000))
  return i32x4.trunc_sat_f32x4_s(f32x4.add(t, v128.and(one, more)))
}

/** numbers of four blocks of 32 and their importance; the last block stands in for those that the row has no more */
export function spreadBlocks(s: usize, x: usize, columns: usize, block: i32, count: i32): void {
  const a = (<usize>block) << 7
  const b = (<usize>(block + min(1, count - 1))) << 7
  const c = (<usize>(block + min(2, count - 1))) << 7
  const d = (<usize>(block + min(3, count - 1))) << 7
  spread(x + a, x + b, x + c, x + d, 32, s + X)
  if (columns) spread(columns + a, columns + b, columns + c, columns + d, 32, s + W)
}

/** numbers of four groups of a block of 256, and the importance of each */
export function spreadGroups(s: usize, x: usize, columns: usize, n: i32): void {
  const step = (<usize>n) << 2
  spread(x, x + step, x + 2 * step, x + 3 * step, n, s + X)
  if (columns) spread(columns, columns + step, columns + 2 * step, columns + 3 * step, n, s + W)
}

/** two bits of 256 codes, four to a byte */
export function putTwos(codes: usize, q: usize): void {
  const three = i8x16.splat(3)
  for (let i: usize = 0; i < 64; i += 16) {
    const at = codes + ((i >> 5) << 7) + (i & 31)
    let w = v128.and(v128.load(at), three)
    w = v128.or(w, i8x16.shl(v128.and(v128.load(at, 32), three), 2))
    w = v128.or(w, i8x16.shl(v128.and(v128.load(at, 64), three), 4))
    v128.store(q + i, v128.or(w, i8x16.shl(v128.load(at, 96), 6)))
  }
}

/** Σx² of n numbers in each lane */
export function squaresOf(s: usize, n: i32): v128 {
  let sum = f32x4.splat(0)
  for (let i: usize = 0; i < <usize>n; i++) {
    const v = v128.load(s + X + (i << 4))
    sum = f32x4.add(sum, f32x4.mul(v, v))
  }
  return sum
}
/** 1/d, and 0 for 0 */
export function inverseOf(d: f32): v128 {
  return f32x4.splat(d ? 1 / d : 0)
}
/** four times four whole numbers as bytes without sign */
export function narrow(a: v128, b: v128, c: v128, d: v128): v128 {
  return i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
}
/** 8 numbers times `inverse` as whole ones of 16 bits, halves away from zero */
export function away(x: usize, inverse: v128): v128 {
  const a = awayFromZero(f32x4.mul(v128.load(x), inverse))
  return i16x8.narrow_i32x4_s(a, awayFromZero(f32x4.mul(v128.load(x, 16), inverse)))
}
/** 32 codes, two to a byte, the first half beside the second */
export function putNibbles(codes: usize, q: usize): void {
  v128.store(q, nibbles(v128.load(codes), v128.load(codes, 16)))
}
