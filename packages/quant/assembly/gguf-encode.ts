import {
  fitByMoves,
  fitLevels,
  fitMin,
  fitPositive,
  fitScale,
  gather,
  levelsOf,
  spread,
  squareAll,
  total,
  W,
  weigh,
  within,
  withinOne,
  X,
} from './lib/fit'
import { putHalf } from './lib/float16'

/**
 * Rows of float32 → ggml's blocks, to the last bit as src/gguf/blocks has it. Of all routines: `x` the first of `rows` of
 * `width` numbers, `columns` the importance of each column or 0, `q` where blocks go, `scratch` of `each` bytes a thread.
 */

const CODES: usize = 2048
const SCALES: usize = 2304
const MINS: usize = 2368
const SUMS: usize = 2432
const LEVELS: usize = 2496
const SHIFTS: usize = 2512

/** largest of four */
function largest(v: v128): f32 {
  const a = f32x4.pmax(v, i32x4.shuffle(v, v, 2, 3, 0, 1))
  const b = f32x4.pmax(a, i32x4.shuffle(a, a, 1, 0, 3, 2))
  return f32x4.extract_lane(b, 0)
}
/** Σx² of n numbers, from the first to the last */
function squares(x: usize, n: i32): f32 {
  let sum: f32 = 0
  for (let i = 0; i < n; i++, x += 4) {
    const v = load<f32>(x)
    sum += v * v
  }
  return sum
}
/** of n numbers the one of the largest magnitude, the first of those */
function peakOf(x: usize, n: i32): f32 {
  let peak: f32 = 0
  for (let i = 0; i < n; i++, x += 4) {
    const v = load<f32>(x)
    if (abs<f32>(v) > abs<f32>(peak)) peak = v
  }
  return peak
}
/** the first of 32 numbers that equals v, magnitudes alone where `signless` */
function first(x: usize, v: f32, signless: bool): f32 {
  const wanted = f32x4.splat(v)
  for (let i = 0; i < 32; i += 4, x += 16) {
    const four = v128.load(x)
    const found = i32x4.bitmask(f32x4.eq(signless ? f32x4.abs(four) : four, wanted))
    if (found) return load<f32>(x + ((<usize>ctz(found)) << 2))
  }
  return v
}
function nibbles(low: v128, high: v128): v128 {
  return v128.or(v128.and(low, i8x16.splat(15)), i8x16.shl(high, 4))
}
/** 32 codes of 5 bits or of 4: the fifth bits before the others */
function putFive(q: usize, low: v128, high: v128, five: bool): void {
  if (five) {
    store<u16>(q, <u16>i8x16.bitmask(i8x16.shl(low, 3)))
    store<u16>(q, <u16>i8x16.bitmask(i8x16.shl(high, 3)), 2)
  }
  v128.store(q + (five ? 4 : 0), nibbles(low, high))
}

/** to the nearest whole number, halves away from zero */
function awayFromZero(v: v128): v128 {
  const t = f32x4.trunc(v)
  const more = f32x4.ge(f32x4.abs(f32x4.sub(v, t)), f32x4.splat(0.5))
  const one = v128.bitselect(v, f32x4.splat(1), i32x4.splat(0x80000000))
  return i32x4.trunc_sat_f32x4_s(f32x4.add(t, v128.and(one, more)))
}

export function toF32(
  x: usize,
  rows: i32,
  width: i32,
  _columns: usize,
  q: usize,
  _scratch: usize,
  _each: i32,
  _thread: i32,
): void {
  memory.copy(q, x, (<usize>rows * <usize>width) << 2)
}

/** bits of four float16, in the low half of each lane: halves to even, at most ±65504 */
function halfBits(v: v128): v128 {
  const size = f32x4.pmin(f32x4.splat(65504), f32x4.abs(v))
  const small = i32x4.sub(f32x4.add(size, f32x4.splat(0.5)), i32x4.splat(0x3f000000))
  const odd = v128.and(i32x4.shr_u(size, 13), i32x4.splat(1))
  const large = i32x4.sub(i32x4.shr_u(i32x4.add(i32x4.add(size, i32x4.splat(0xfff)), odd), 13), i32x4.splat(112 << 10))
  const sign = v128.and(i32x4.shr_u(v, 16), i32x4.splat(0x8000))
  return v128.or(sign, v128.bitselect(small, large, i32x4.lt_s(size, i32x4.splat(0x38800000))))
}
/** bits of four bfloat16 in the high half of each lane: halves to even, finite */
function upperBits(v: v128): v128 {
  const most = f32x4.splat(reinterpret<f32>(0x7f7f0000))
  const u = f32x4.pmax(f32x4.neg(most), f32x4.pmin(most, v))
  const odd = v128.and(i32x4.shr_u(u, 16), i32x4.splat(1))
  return i32x4.add(i32x4.add(u, i32x4.splat(0x7fff)), odd)
}

export function toF16(
  x: usize,
  rows: i32,
  width: i32,
  _columns: usize,
  q: usize,
  _scratch: usize,
  _each: i32,
  _thread: i32,
): void {
  let n = rows * width
  for (; n >= 8; n -= 8, x += 32, q += 16)
    v128.store(q, i16x8.narrow_i32x4_u(halfBits(v128.load(x)), halfBits(v128.load(x, 16))))
  for (; n > 0; n--, x += 4, q += 2) store<u16>(q, <u16>i32x4.extract_lane(halfBits(f32x4.splat(load<f32>(x))), 0))
}

export function toBf16(
  x: usize,
  rows: i32,
  width: i32,
  _columns: usize,
  q: usize,
  _scratch: usize,
  _each: i32,
  _thread: i32,
): void {
  let n = rows * width
  for (; n >= 8; n -= 8, x += 32, q += 16) {
    const a = upperBits(v128.load(x))
    v128.store(q, i16x8.shuffle(a, upperBits(v128.load(x, 16)), 1, 3, 5, 7, 9, 11, 13, 15))
  }
  for (; n > 0; n--, x += 4, q += 2)
    store<u16>(q, <u16>(i32x4.extract_lane(upperBits(f32x4.splat(load<f32>(x))), 0) >>> 16))
}

/** Q8_0 */
export function toQ80(
  x: usize,
  rows: i32,
  width: i32,
  _columns: usize,
  q: usize,
  _scratch: usize,
  _each: i32,
  _thread: i32,
): void {
  for (let n = rows * (width >> 5); n > 0; n--, q += 34) {
    let most = f32x4.abs(v128.load(x))
    for (let i: usize = 16; i < 128; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)))
    const d = largest(most) / 127
    const inverse = f32x4.splat(d ? 1 / d : 0)
    putHalf(q, d)
    for (let i: usize = 0; i < 32; i += 16, x += 64) {
      const a = awayFromZero(f32x4.mul(v128.load(x), inverse))
      const b = awayFromZero(f32x4.mul(v128.load(x, 16), inverse))
      const c = awayFromZero(f32x4.mul(v128.load(x, 32), inverse))
      const e = awayFromZero(f32x4.mul(v128.load(x, 48), inverse))
      v128.store(q + i, i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, e)), 2)
    }
  }
}

/** numbers of four blocks of 32 and their importance; the last block stands in for those that the row has no more */
function spreadBlocks(s: usize, x: usize, columns: usize, block: i32, count: i32): void {
  const a = (<usize>block) << 7
  const b = (<usize>(block + min(1, count - 1))) << 7
  const c = (<usize>(block + min(2, count - 1))) << 7
  const d = (<usize>(block + min(3, count - 1))) << 7
  spread(x + a, x + b, x + c, x + d, 32, s + X)
  if (columns) spread(columns + a, columns + b, columns + c, columns + d, 32, s + W)
}
/** numbers of four groups of a block of 256, and the importance of each */
function spreadGroups(s: usize, x: usize, columns: usize, n: i32): void {
  const step = (<usize>n) << 2
  spread(x, x + step, x + 2 * step, x + 3 * step, n, s + X)
  if (columns) spread(columns, columns + step, columns + 2 * step, columns + 3 * step, n, s + W)
}

/** 16 numbers less `least`, times `inverse`, plus `more`, cut to whole ones, at most `most`, as bytes */
function rounded(x: usize, least: v128, inverse: v128, more: v128, most: v128): v128 {
  const a = cut(v128.load(x), least, inverse, more, most)
  const b = cut(v128.load(x, 16), least, inverse, more, most)
  const c = cut(v128.load(x, 32), least, inverse, more, most)
  const d = cut(v128.load(x, 48), least, inverse, more, most)
  return i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
}
function cut(x: v128, least: v128, inverse: v128, more: v128, most: v128): v128 {
  const v = f32x4.add(f32x4.mul(f32x4.sub(x, least), inverse), more)
  return i32x4.min_s(i32x4.trunc_sat_f32x4_s(v), most)
}

/** Q4_0 and Q5_0 */
function symmetric(x: usize, rows: i32, width: i32, columns: usize, q: usize, s: usize, middle: f32, five: bool): void {
  const size: usize = five ? 22 : 18
  const blocks = width >> 5
  const most = i32x4.splat(2 * <i32>middle - 1)
  const more = f32x4.splat(middle + 0.5)
  const zero = f32x4.splat(0)
  for (let r = 0; r < rows; r++, x += (<usize>width) << 2) {
    if (columns) {
      const power = f32x4.splat(squares(x, width) / <f32>width)
      for (let b = 0; b < blocks; b += 4) {
        const count = min(4, blocks - b)
        spreadBlocks(s, x, columns, b, count)
        weigh(s, 32, power)
        v128.store(s + SCALES, fitScale(s, 32, middle))
        gather(s, 32, s + CODES, 32)
        for (let j: usize = 0; j < <usize>count; j++, q += size) {
          putHalf(q, load<f32>(s + SCALES + (j << 2)))
          const codes = s + CODES + (j << 5)
          putFive(q + 2, v128.load(codes), v128.load(codes, 16), five)
        }
      }
      continue
    }
    for (let b = 0; b < blocks; b++, q += size) {
      const at = x + ((<usize>b) << 7)
      let a = f32x4.abs(v128.load(at))
      for (let i: usize = 16; i < 128; i += 16) a = f32x4.pmax(a, f32x4.abs(v128.load(at + i)))
      const m = largest(a)
      const d = (m ? first(at, m, true) : 0) / -middle
      const inverse = f32x4.splat(d ? 1 / d : 0)
      putHalf(q, d)
      const low = rounded(at, zero, inverse, more, most)
      putFive(q + 2, low, rounded(at + 64, zero, inverse, more, most), five)
    }
  }
}

export function toQ40(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  symmetric(x, rows, width, columns, q, scratch + each * thread, 8, false)
}
export function toQ50(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  symmetric(x, rows, width, columns, q, scratch + each * thread, 16, true)
}

/** Q4_1 and Q5_1 */
function affine(x: usize, rows: i32, width: i32, columns: usize, q: usize, s: usize, top: f32, five: bool): void {
  const size: usize = five ? 24 : 20
  const blocks = width >> 5
  const most = i32x4.splat(<i32>top)
  const more = f32x4.splat(0.5)
  for (let r = 0; r < rows; r++, x += (<usize>width) << 2) {
    if (columns) {
      const power = f32x4.splat(squares(x, width) / <f32>width)
      for (let b = 0; b < blocks; b += 4) {
        const count = min(4, blocks - b)
        spreadBlocks(s, x, columns, b, count)
        weigh(s, 32, power)
        v128.store(s + SCALES, fitMin(s, 32, top, -0.9, 0.05, 36, false, s + MINS))
        gather(s, 32, s + CODES, 32)
        for (let j: usize = 0; j < <usize>count; j++, q += size) {
          putHalf(q, load<f32>(s + SCALES + (j << 2)))
          putHalf(q + 2, -load<f32>(s + MINS + (j << 2)))
          const codes = s + CODES + (j << 5)
          putFive(q + 4, v128.load(codes), v128.load(codes, 16), five)
        }
      }
      continue
    }
    for (let b = 0; b < blocks; b++, q += size) {
      const at = x + ((<usize>b) << 7)
      let low = v128.load(at)
      let high = low
      for (let i: usize = 16; i < 128; i += 16) {
        low = f32x4.pmin(low, v128.load(at + i))
        high = f32x4.pmax(high, v128.load(at + i))
      }
      // of zeros of both signs, the first counts
      const least = first(at, -largest(f32x4.neg(low)), false)
      const d = (first(at, largest(high), false) - least) / top
      const inverse = f32x4.splat(d ? 1 / d : 0)
      putHalf(q, d)
      putHalf(q + 2, least)
      const m = f32x4.splat(least)
      const codes = rounded(at, m, inverse, more, most)
      putFive(q + 4, codes, rounded(at + 64, m, inverse, more, most), five)
    }
  }
}

export function toQ41(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  affine(x, rows, width, columns, q, scratch + each * thread, 15, false)
}
export function toQ51(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  affine(x, rows, width, columns, q, scratch + each * thread, 31, true)
}

/** n codes within bounds of (x + m)/d, less the lower bound, as bytes */
function requantize(x: usize, n: i32, d: f32, m: f32, least: f32, most: f32, codes: usize): void {
  const scale = f32x4.splat(d)
  const shift = f32x4.splat(m)
  const low = f32x4.splat(least)
  const high = f32x4.splat(most)
  for (; n > 0; n -= 16, x += 64, codes += 16) {
    const a = code(v128.load(x), scale, shift, low, high)
    const b = code(v128.load(x, 16), scale, shift, low, high)
    const c = code(v128.load(x, 32), scale, shift, low, high)
    const e = code(v128.load(x, 48), scale, shift, low, high)
    v128.store(codes, i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, e)))
  }
}
function code(x: v128, d: v128, m: v128, low: v128, high: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.sub(within(low, high, f32x4.div(f32x4.add(x, m), d)), low))
}
/** two bits of 256 codes, four to a byte */
function putTwos(codes: usize, q: usize): void {
  const three = i8x16.splat(3)
  for (let i: usize = 0; i < 64; i += 16) {
    const at = codes + ((i >> 5) << 7) + (i & 31)
    let w = v128.and(v128.load(at), three)
    w = v128.or(w, i8x16.shl(v128.and(v128.load(at, 32), three), 2))
    w = v128.or(w, i8x16.shl(v128.and(v128.load(at, 64), three), 4))
    v128.store(q + i, v128.or(w, i8x16.shl(v128.load(at, 96), 6)))
  }
}
/** bit `bit` of 256 codes, eight to a byte */
function putOnes(codes: usize, bit: i32, q: usize): void {
  const one = i8x16.splat(1)
  for (let i: usize = 0; i < 32; i += 16) {
    let w = i8x16.splat(0)
    for (let j = 0; j < 8; j++)
      w = v128.or(w, i8x16.shl(v128.and(i8x16.shr_u(v128.load(codes + (j << 5) + i), bit), one), j))
    v128.store(q + i, w)
  }
}
/** low halves of 256 codes: of each 64, the first 32 beside the others */
function putLows(codes: usize, q: usize): void {
  for (let i: usize = 0; i < 128; i += 16) {
    const at = codes + ((i >> 5) << 6) + (i & 31)
    v128.store(q + i, nibbles(v128.load(at), v128.load(at, 32)))
  }
}
/** scales of n groups as at most `most` levels of d, which is given back as it was written */
function inLevels(values: usize, n: i32, most: f32, levels: usize, d: usize): f32 {
  let max: f32 = 0
  for (let i: usize = 0; i < <usize>n; i++) {
    const v = load<f32>(values + (i << 2))
    if (v > max) max = v
  }
  const inverse: f32 = max > 0 ? most / max : 0
  for (let i: usize = 0; i < <usize>n; i++)
    store<u8>(levels + i, <u8>withinOne(0, most, inverse * load<f32>(values + (i << 2))))
  return putHalf(d, max / most)
}

export function toQ2k(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  const s = scratch + each * thread
  for (let r = 0; r < rows; r++)
    for (let c: usize = 0; c < <usize>width; c += 256, x += 1024, q += 84) {
      const power = f32x4.splat(columns ? squares(x, 256) / 256 : 0)
      for (let g: usize = 0; g < 4; g++) {
        spreadGroups(s, x + (g << 8), columns ? columns + (c << 2) + (g << 8) : 0, 16)
        if (columns) weigh(s, 16, power)
        else for (let i: usize = 0; i < 256; i += 16) v128.store(s + W + i, f32x4.abs(v128.load(s + X + i)))
        v128.store(s + SUMS + (g << 4), total(s, 16))
        const mins = s + MINS + (g << 4)
        const scale = columns
          ? fitMin(s, 16, 3, -0.9, 0.05, 36, false, mins)
          : fitMin(s, 16, 3, -0.5, 0.1, 15, true, mins)
        v128.store(s + SCALES + (g << 4), scale)
        gather(s, 16, s + CODES + (g << 6), 16)
      }
      const d = columns
        ? putHalf(q + 80, fitPositive(s + SCALES, 16, 15, s + LEVELS, s + SUMS))
        : inLevels(s + SCALES, 16, 15, s + LEVELS, q + 80)
      const least = columns
        ? putHalf(q + 82, fitPositive(s + MINS, 16, 15, s + SHIFTS, s + SUMS))
        : inLevels(s + MINS, 16, 15, s + SHIFTS, q + 82)
      v128.store(q, v128.or(v128.load(s + LEVELS), i8x16.shl(v128.load(s + SHIFTS), 4)))
      for (let j: usize = 0; j < 16; j++) {
        const scale: f32 = d * <f32>load<u8>(s + LEVELS + j)
        const m: f32 = least * <f32>load<u8>(s + SHIFTS + j)
        if (scale) requantize(x + (j << 6), 16, scale, m, 0, 3, s + CODES + (j << 4))
      }
      putTwos(s + CODES, q + 16)
    }
}

export function toQ3k(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  const s = scratch + each * thread
  for (let r = 0; r < rows; r++)
    for (let c: usize = 0; c < <usize>width; c += 256, x += 1024, q += 110) {
      const power = f32x4.splat(columns ? (2 * squares(x, 256)) / 256 : 0)
      for (let g: usize = 0; g < 4; g++) {
        spreadGroups(s, x + (g << 8), columns ? columns + (c << 2) + (g << 8) : 0, 16)
        if (columns) {
          weigh(s, 16, power)
          v128.store(s + SUMS + (g << 4), total(s, 16))
        }
        v128.store(s + SCALES + (g << 4), columns ? fitScale(s, 16, 4) : fitByMoves(s, 16))
        gather(s, 16, s + CODES + (g << 6), 16)
      }
      let d: f32 = 0
      if (columns) {
        // one group of 16 scales: the same in each lane
        const scales = s + SCALES
        const sums = s + SUMS
        spread(scales, scales, scales, scales, 16, s + X)
        spread(sums, sums, sums, sums, 16, s + W)
        d = f32x4.extract_lane(fitScale(s, 16, 32), 0)
        gather(s, 16, s + LEVELS, 0)
      } else {
        const peak = peakOf(s + SCALES, 16)
        const inverse: f32 = peak ? -32 / peak : 0
        for (let j: usize = 0; j < 16; j++) {
          const level = peak ? <i32>withinOne(-32, 31, inverse * load<f32>(s + SCALES + (j << 2))) + 32 : 0
          store<u8>(s + LEVELS + j, <u8>level)
        }
        d = peak ? 1 / inverse : 0
      }
      d = putHalf(q + 108, d)
      for (let j: usize = 0; j < 8; j++)
        store<u8>(q + 96 + j, (load<u8>(s + LEVELS + j) & 15) | ((load<u8>(s + LEVELS + j, 8) & 15) << 4))
      for (let j: usize = 0; j < 4; j++) {
        const a = load<u8>(s + LEVELS + j) >> 4
        const b = (load<u8>(s + LEVELS + j, 4) >> 4) << 2
        const e = (load<u8>(s + LEVELS + j, 8) >> 4) << 4
        store<u8>(q + 104 + j, a | b | e | ((load<u8>(s + LEVELS + j, 12) >> 4) << 6))
      }
      for (let j: usize = 0; j < 16; j++) {
        const scale: f32 = d * <f32>(<i32>load<u8>(s + LEVELS + j) - 32)
        if (scale) requantize(x + (j << 6), 16, scale, 0, -4, 3, s + CODES + (j << 4))
      }
      putOnes(s + CODES, 2, q)
      putTwos(s + CODES, q + 32)
    }
}

/** scales and codes of Q4_K and Q5_K */
function pairs(x: usize, columns: usize, q: usize, s: usize, most: f32, start: f32, steps: i32): void {
  const power = f32x4.splat(columns ? (2 * squares(x, 256)) / 256 : 0)
  for (let g: usize = 0; g < 2; g++) {
    spreadGroups(s, x + (g << 9), columns ? columns + (g << 9) : 0, 32)
    if (columns) {
      weigh(s, 32, power)
      v128.store(s + SUMS + (g << 4), total(s, 32))
    } else {
      let sum = f32x4.splat(0)
      for (let i: usize = 0; i < 512; i += 16) {
        const v = v128.load(s + X + i)
        sum = f32x4.add(sum, f32x4.mul(v, v))
      }
      const size = f32x4.sqrt(f32x4.mul(sum, f32x4.splat(0.03125)))
      for (let i: usize = 0; i < 512; i += 16) v128.store(s + W + i, f32x4.add(size, f32x4.abs(v128.load(s + X + i))))
    }
    const mins = s + MINS + (g << 4)
    const scale = columns
      ? fitMin(s, 32, most, -0.9, 0.05, 36, false, mins)
      : fitMin(s, 32, most, start, 0.1, steps, false, mins)
    v128.store(s + SCALES + (g << 4), scale)
    gather(s, 32, s + CODES + (g << 7), 32)
  }
  const d = columns
    ? putHalf(q, fitPositive(s + SCALES, 8, 63, s + LEVELS, s + SUMS))
    : inLevels(s + SCALES, 8, 63, s + LEVELS, q)
  const least = columns
    ? putHalf(q + 2, fitPositive(s + MINS, 8, 63, s + SHIFTS, s + SUMS))
    : inLevels(s + MINS, 8, 63, s + SHIFTS, q + 2)
  for (let b: usize = 0; b < 4; b++) {
    const a = load<u8>(s + LEVELS + b, 4)
    const m = load<u8>(s + SHIFTS + b, 4)
    store<u8>(q + 4 + b, load<u8>(s + LEVELS + b) | ((a >> 4) << 6))
    store<u8>(q + 8 + b, load<u8>(s + SHIFTS + b) | ((m >> 4) << 6))
    store<u8>(q + 12 + b, (a & 15) | ((m & 15) << 4))
  }
  for (let b: usize = 0; b < 8; b++) {
    const scale: f32 = d * <f32>load<u8>(s + LEVELS + b)
    const m: f32 = least * <f32>load<u8>(s + SHIFTS + b)
    if (scale) requantize(x + (b << 7), 32, scale, m, 0, most, s + CODES + (b << 5))
  }
}

export function toQ4k(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  const s = scratch + each * thread
  for (let r = 0; r < rows; r++)
    for (let c: usize = 0; c < <usize>width; c += 256, x += 1024, q += 144) {
      pairs(x, columns ? columns + (c << 2) : 0, q, s, 15, -1, 20)
      putLows(s + CODES, q + 16)
    }
}

export function toQ5k(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  const s = scratch + each * thread
  for (let r = 0; r < rows; r++)
    for (let c: usize = 0; c < <usize>width; c += 256, x += 1024, q += 176) {
      pairs(x, columns ? columns + (c << 2) : 0, q, s, 31, -0.5, 15)
      putOnes(s + CODES, 4, q + 16)
      putLows(s + CODES, q + 48)
    }
}

export function toQ6k(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  const s = scratch + each * thread
  for (let r = 0; r < rows; r++)
    for (let c: usize = 0; c < <usize>width; c += 256, x += 1024, q += 210) {
      for (let g: usize = 0; g < 4; g++) {
        spreadGroups(s, x + (g << 8), columns ? columns + (c << 2) + (g << 8) : 0, 16)
        if (!columns) squareAll(s, 16)
        v128.store(s + SCALES + (g << 4), fitScale(s, 16, 32))
        gather(s, 16, s + CODES + (g << 6), 16)
      }
      const peak = peakOf(s + SCALES, 16)
      if (abs<f32>(peak) < <f32>1e-15) {
        memory.fill(q, 0, 210)
        continue
      }
      const inverse: f32 = -128 / peak
      const d = putHalf(q + 208, 1 / inverse)
      for (let j: usize = 0; j < 16; j++) {
        const level = <i32>min<f32>(127, nearest<f32>(inverse * load<f32>(s + SCALES + (j << 2))))
        store<i8>(q + 192 + j, <i8>level)
        const scale: f32 = d * <f32>level
        if (scale) requantize(x + (j << 6), 16, scale, 0, -32, 31, s + CODES + (j << 4))
      }
      for (let i: usize = 0; i < 64; i += 16) {
        const at = s + CODES + ((i >> 5) << 7) + (i & 31)
        const a = v128.load(at)
        const b = v128.load(at, 32)
        const e = v128.load(at, 64)
        const f = v128.load(at, 96)
        const to = q + ((i >> 5) << 6) + (i & 31)
        v128.store(to, nibbles(a, e))
        v128.store(to, nibbles(b, f), 32)
        const low = v128.or(i8x16.shr_u(a, 4), i8x16.shl(i8x16.shr_u(b, 4), 2))
        const high = v128.or(i8x16.shl(i8x16.shr_u(e, 4), 4), i8x16.shl(i8x16.shr_u(f, 4), 6))
        v128.store(q + 128 + i, v128.or(low, high))
      }
    }
}

/** 1/d, and 0 for 0, of each lane */
function inverses(d: v128): v128 {
  return v128.and(f32x4.div(f32x4.splat(1), d), f32x4.ne(d, f32x4.splat(0)))
}

export function toIq4nl(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  const s = scratch + each * thread
  const blocks = width >> 5
  for (let r = 0; r < rows; r++, x += (<usize>width) << 2)
    for (let b = 0; b < blocks; b += 4) {
      const count = min(4, blocks - b)
      spreadBlocks(s, x, columns, b, count)
      if (columns) {
        let power = f32x4.splat(0)
        for (let i: usize = 0; i < 512; i += 16) {
          const v = v128.load(s + X + i)
          power = f32x4.add(power, f32x4.mul(v, v))
        }
        weigh(s, 32, f32x4.mul(power, f32x4.splat(0.0625)))
      } else squareAll(s, 32)
      const d = fitLevels(s)
      levelsOf(s, inverses(d))
      gather(s, 32, s + CODES, 32)
      v128.store(s + SCALES, d)
      for (let j: usize = 0; j < <usize>count; j++, q += 18) {
        putHalf(q, load<f32>(s + SCALES + (j << 2)))
        const codes = s + CODES + (j << 5)
        v128.store(q, nibbles(v128.load(codes), v128.load(codes, 16)), 2)
      }
    }
}

export function toIq4xs(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  const s = scratch + each * thread
  for (let r = 0; r < rows; r++)
    for (let c: usize = 0; c < <usize>width; c += 256, x += 1024, q += 136) {
      const power = f32x4.splat(columns ? (2 * squares(x, 256)) / 256 : 0)
      for (let g: usize = 0; g < 2; g++) {
        spreadGroups(s, x + (g << 9), columns ? columns + (c << 2) + (g << 9) : 0, 32)
        if (columns) weigh(s, 32, power)
        else squareAll(s, 32)
        v128.store(s + SCALES + (g << 4), fitLevels(s))
      }
      const d: f32 = -peakOf(s + SCALES, 8) / 32
      putHalf(q, d)
      const inverse = f32x4.splat(d ? 1 / d : 0)
      store<u16>(q, 0, 2)
      store<u32>(q, 0, 4)
      for (let g: usize = 0; g < 2; g++) {
        spreadGroups(s, x + (g << 9), 0, 32)
        const ratio = f32x4.mul(inverse, v128.load(s + SCALES + (g << 4)))
        const level = within(f32x4.splat(-32), f32x4.splat(31), ratio)
        levelsOf(s, inverses(f32x4.mul(f32x4.splat(d), level)))
        gather(s, 32, s + CODES, 32)
        v128.store(s + LEVELS, i32x4.trunc_sat_f32x4_s(f32x4.add(level, f32x4.splat(32))))
        for (let j: usize = 0; j < 4; j++) {
          const b = 4 * g + j
          const l = load<u32>(s + LEVELS + (j << 2))
          store<u16>(q, load<u16>(q, 2) | <u16>((l >> 4) << (2 * b)), 2)
          store<u8>(q + (b >> 1), load<u8>(q + (b >> 1), 4) | <u8>((l & 15) << ((b & 1) << 2)), 4)
          const codes = s + CODES + (j << 5)
          v128.store(q + (b << 4), nibbles(v128.load(codes), v128.load(codes, 16)), 8)
        }
      }
    }
}

export function toTq20(
  x: usize,
  rows: i32,
  width: i32,
  _columns: usize,
  q: usize,
  scratch: usize,
  each: i32,
  thread: i32,
): void {
  const codes = scratch + each * thread + CODES
  const one = i8x16.splat(1)
  for (let n = rows * (width >> 8); n > 0; n--, q += 66) {
    let most = f32x4.abs(v128.load(x))
    for (let i: usize = 16; i < 1024; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)))
    const d = largest(most)
    const inverse = f32x4.splat(d ? 1 / d : 0)
    putHalf(q + 64, d)
    for (let i: usize = 0; i < 256; i += 16, x += 64) {
      const a = awayFromZero(f32x4.mul(v128.load(x), inverse))
      const b = awayFromZero(f32x4.mul(v128.load(x, 16), inverse))
      const c = awayFromZero(f32x4.mul(v128.load(x, 32), inverse))
      const e = awayFromZero(f32x4.mul(v128.load(x, 48), inverse))
      const w = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, e))
      v128.store(codes + i, i8x16.add(w, one))
    }
    putTwos(codes, q)
  }
}

/** of the 4-bit floats times d the first that is nearest to x, by code */
function smallCode(x: v128, d: f32): v128 {
  let code = i32x4.splat(0)
  let least = f32x4.abs(x)
  for (let c = 1; c < 16; c++) {
    const m = c & 7
    // 0, 1, 2, 3, 4, 6, 8, 12
    const size = <f32>(m < 2 ? m : (2 + (m & 1)) << ((m >> 1) - 1))
    const gap = f32x4.abs(f32x4.sub(f32x4.splat((c > 7 ? -size : size) * d), x))
    const nearer = f32x4.lt(gap, least)
    code = v128.bitselect(i32x4.splat(c), code, nearer)
    least = v128.bitselect(gap, least, nearer)
  }
  return code
}

export function toMxfp4(
  x: usize,
  rows: i32,
  width: i32,
  _columns: usize,
  q: usize,
  _scratch: usize,
  _each: i32,
  _thread: i32,
): void {
  for (let n = rows * (width >> 5); n > 0; n--, q += 17, x += 128) {
    let most = f32x4.abs(v128.load(x))
    for (let i: usize = 16; i < 128; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)))
    const e = max<i32>(0, min<i32>(254, <i32>(reinterpret<u32>(largest(most)) >> 23) - 2))
    const d = reinterpret<f32>(e < 2 ? 0x200000 << e : (e - 1) << 23)
    store<u8>(q, <u8>e)
    for (let i: usize = 0; i < 16; i += 4) {
      const low = smallCode(v128.load(x + (i << 2)), d)
      const both = v128.or(low, i32x4.shl(smallCode(v128.load(x + (i << 2), 64), d), 4))
      v128.store8_lane(q + i, both, 0, 1)
      v128.store8_lane(q + i, both, 4, 2)
      v128.store8_lane(q + i, both, 8, 3)
      v128.store8_lane(q + i, both, 12, 4)
    }
  }
}
