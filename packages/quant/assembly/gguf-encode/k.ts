import {
  fitByMoves,
  fitMin,
  fitPositive,
  fitScale,
  gather,
  spread,
  squareAll,
  total,
  W,
  weigh,
  within,
  withinOne,
  X,
} from '../lib/fit'
import { putHalf } from '../lib/float16'
import { iq4xs } from './iq4'
import {
  CODES,
  LEVELS,
  MINS,
  narrow,
  nibbles,
  own,
  peakOf,
  putTwos,
  SCALES,
  SHIFTS,
  SUMS,
  spreadGroups,
  squares,
  squaresOf,
} from './shared'

/** Blocks of 256 numbers: Q2_K to Q6_K, and IQ4_XS. */

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
    v128.store(codes, narrow(a, b, c, code(v128.load(x, 48), scale, shift, low, high)))
  }
}
function code(x: v128, d: v128, m: v128, low: v128, high: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.sub(within(low, high, f32x4.div(f32x4.add(x, m), d)), low))
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
/**
 * values of n groups as at most `most` levels of d, which is given back as it was written: fitted by the groups' weights
 * where there are any, and by the largest value else
 */
function inLevels(values: usize, n: i32, most: f32, levels: usize, sums: usize, d: usize): f32 {
  if (sums) return putHalf(d, fitPositive(values, n, most, levels, sums))
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

function q2k(x: usize, columns: usize, q: usize, s: usize): void {
  const power = f32x4.splat(columns ? squares(x, 256) / 256 : 0)
  for (let g: usize = 0; g < 4; g++) {
    spreadGroups(s, x + (g << 8), columns ? columns + (g << 8) : 0, 16)
    if (columns) weigh(s, 16, power)
    else for (let i: usize = 0; i < 256; i += 16) v128.store(s + W + i, f32x4.abs(v128.load(s + X + i)))
    v128.store(s + SUMS + (g << 4), total(s, 16))
    const mins = s + MINS + (g << 4)
    const scale = columns ? fitMin(s, 16, 3, -0.9, 0.05, 36, false, mins) : fitMin(s, 16, 3, -0.5, 0.1, 15, true, mins)
    v128.store(s + SCALES + (g << 4), scale)
    gather(s, 16, s + CODES + (g << 6), 16)
  }
  const sums = columns ? s + SUMS : 0
  const d = inLevels(s + SCALES, 16, 15, s + LEVELS, sums, q + 80)
  const least = inLevels(s + MINS, 16, 15, s + SHIFTS, sums, q + 82)
  v128.store(q, v128.or(v128.load(s + LEVELS), i8x16.shl(v128.load(s + SHIFTS), 4)))
  for (let j: usize = 0; j < 16; j++) {
    const scale: f32 = d * <f32>load<u8>(s + LEVELS + j)
    const m: f32 = least * <f32>load<u8>(s + SHIFTS + j)
    if (scale) requantize(x + (j << 6), 16, scale, m, 0, 3, s + CODES + (j << 4))
  }
  putTwos(s + CODES, q + 16)
}

function q3k(x: usize, columns: usize, q: usize, s: usize): void {
  const power = f32x4.splat(columns ? (2 * squares(x, 256)) / 256 : 0)
  for (let g: usize = 0; g < 4; g++) {
    spreadGroups(s, x + (g << 8), columns ? columns + (g << 8) : 0, 16)
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

/** scales and codes of Q4_K and Q5_K */
function pairs(x: usize, columns: usize, q: usize, s: usize, most: f32, start: f32, steps: i32): void {
  const power = f32x4.splat(columns ? (2 * squares(x, 256)) / 256 : 0)
  for (let g: usize = 0; g < 2; g++) {
    spreadGroups(s, x + (g << 9), columns ? columns + (g << 9) : 0, 32)
    if (columns) {
      weigh(s, 32, power)
      v128.store(s + SUMS + (g << 4), total(s, 32))
    } else {
      const size = f32x4.sqrt(f32x4.mul(squaresOf(s, 32), f32x4.splat(0.03125)))
      for (let i: usize = 0; i < 512; i += 16) v128.store(s + W + i, f32x4.add(size, f32x4.abs(v128.load(s + X + i))))
    }
    const mins = s + MINS + (g << 4)
    const scale = columns
      ? fitMin(s, 32, most, -0.9, 0.05, 36, false, mins)
      : fitMin(s, 32, most, start, 0.1, steps, false, mins)
    v128.store(s + SCALES + (g << 4), scale)
    gather(s, 32, s + CODES + (g << 7), 32)
  }
  const sums = columns ? s + SUMS : 0
  const d = inLevels(s + SCALES, 8, 63, s + LEVELS, sums, q)
  const least = inLevels(s + MINS, 8, 63, s + SHIFTS, sums, q + 2)
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

function q6k(x: usize, columns: usize, q: usize, s: usize): void {
  for (let g: usize = 0; g < 4; g++) {
    spreadGroups(s, x + (g << 8), columns ? columns + (g << 8) : 0, 16)
    if (!columns) squareAll(s, 16)
    v128.store(s + SCALES + (g << 4), fitScale(s, 16, 32))
    gather(s, 16, s + CODES + (g << 6), 16)
  }
  const peak = peakOf(s + SCALES, 16)
  if (abs<f32>(peak) < <f32>1e-15) {
    memory.fill(q, 0, 210)
    return
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

/** the blocks of each row: of Q2_K to Q6_K by that number of bits, of IQ4_XS by 0 */
function blocks(bits: i32, bytes: usize, x: usize, n: i32, width: i32, columns: usize, q: usize, s: usize): void {
  for (let r = 0; r < n; r++)
    for (let c: usize = 0; c < <usize>width; c += 256, x += 1024, q += bytes) {
      const own = columns ? columns + (c << 2) : 0
      if (bits === 2) q2k(x, own, q, s)
      else if (bits === 3) q3k(x, own, q, s)
      else if (bits === 6) q6k(x, own, q, s)
      else if (bits === 0) iq4xs(x, own, q, s)
      else {
        if (bits === 4) pairs(x, own, q, s, 15, -1, 20)
        else {
          pairs(x, own, q, s, 31, -0.5, 15)
          putOnes(s + CODES, 4, q + 16)
        }
        putLows(s + CODES, q + (bits === 4 ? 16 : 48))
      }
    }
}
export function toQ2k(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  blocks(2, 84, x, rows, width, columns, q, own(scratch, thread))
}
export function toQ3k(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  blocks(3, 110, x, rows, width, columns, q, own(scratch, thread))
}
export function toQ4k(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  blocks(4, 144, x, rows, width, columns, q, own(scratch, thread))
}
export function toQ5k(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  blocks(5, 176, x, rows, width, columns, q, own(scratch, thread))
}
export function toQ6k(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  blocks(6, 210, x, rows, width, columns, q, own(scratch, thread))
}
export function toIq4xs(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  blocks(0, 136, x, rows, width, columns, q, own(scratch, thread))
}
