/** float32 → codes of even grids, 8-bit floats, digits of base 3 and signs; what their blocks are scaled by. Each rounds as its loop in JavaScript does. */

/**
 * Of blocks [from, to), in whose ranges 0 always is: the number of the largest magnitude; or where `both`, the steps
 * (max − min)/most, and after `all` of them the zeros, round(−min/step).
 */
export function range(
  x: usize,
  both: i32,
  most: f32,
  all: i32,
  block: i32,
  n: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  for (let b = from; b < to; b++) {
    const start = b * block
    let p = x + ((<usize>start) << 2)
    const stop = x + ((<usize>min(start + block, n)) << 2)
    let least = f32x4.splat(0)
    let largest = f32x4.splat(0)
    for (; p + 16 <= stop; p += 16) {
      const v = v128.load(p)
      least = f32x4.pmin(least, v)
      largest = f32x4.pmax(largest, v)
    }
    let low = min(
      min(f32x4.extract_lane(least, 0), f32x4.extract_lane(least, 1)),
      min(f32x4.extract_lane(least, 2), f32x4.extract_lane(least, 3)),
    )
    let high = max(
      max(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
      max(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
    )
    for (; p < stop; p += 4) {
      low = min(low, load<f32>(p))
      high = max(high, load<f32>(p))
    }
    const to = y + ((<usize>b) << 2)
    if (both) {
      // divided first, so that the range of numbers near the largest float32 has no overflow
      const step: f32 = high / most - low / most
      store<f32>(to, step)
      store<f32>(to + ((<usize>all) << 2), step > 0 ? nearest((<f32>0 - low) / step) : 0)
    } else store<f32>(to, -low > high ? low : high)
  }
}

/** the sum and four more, in their order */
function plus(total: f64, v: v128): f64 {
  const low = f64x2.promote_low_f32x4(v)
  const high = f64x2.promote_low_f32x4(i64x2.shuffle(v, v, 1, 1))
  total += f64x2.extract_lane(low, 0)
  total += f64x2.extract_lane(low, 1)
  total += f64x2.extract_lane(high, 0)
  return total + f64x2.extract_lane(high, 1)
}

/**
 * Σ|x| of blocks [from, to), in the order of the numbers; where `over`, of those with |x|/limit > 1/2; where `count`, how many.
 * Block b's limit is the one `b·each` bytes on.
 */
export function sums(
  x: usize,
  limits: usize,
  each: i32,
  over: i32,
  count: i32,
  block: i32,
  n: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  const half = f32x4.splat(0.5)
  const all = i32x4.splat(over ? 0 : -1)
  const ones = f32x4.splat(1)
  for (let b = from; b < to; b++) {
    const start = b * block
    let p = x + ((<usize>start) << 2)
    const stop = x + ((<usize>min(start + block, n)) << 2)
    const limit = v128.load32_splat(over ? limits + <usize>b * each : x)
    let total: f64 = 0
    for (; p + 16 <= stop; p += 16) {
      const a = f32x4.abs(v128.load(p))
      const some = v128.or(all, f32x4.gt(f32x4.div(a, limit), half))
      total = plus(total, v128.and(count ? ones : a, some))
    }
    for (; p < stop; p += 4) {
      const a = f32x4.abs(v128.load32_splat(p))
      const some = v128.or(all, f32x4.gt(f32x4.div(a, limit), half))
      total += <f64>f32x4.extract_lane(v128.and(count ? ones : a, some), 0)
    }
    store<f32>(y + ((<usize>b) << 2), <f32>total)
  }
}

/** max |x| of tiles [from, to), row by row, each of `tall` rows and `wide` columns, the last ones maybe fewer */
export function tileAbsmax(x: usize, out: i32, width: i32, tall: i32, wide: i32, from: i32, to: i32, y: usize): void {
  const across = (width + wide - 1) / wide
  for (let t = from; t < to; t++) {
    const first = (t / across) * tall
    const column = (t % across) * wide
    let most = f32x4.splat(0)
    let one: f32 = 0
    for (let row = first, end = min(first + tall, out); row < end; row++) {
      let p = x + ((<usize>row * width + column) << 2)
      const stop = p + ((<usize>min(wide, width - column)) << 2)
      for (; p + 16 <= stop; p += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(p)))
      for (; p < stop; p += 4) one = max(one, abs(load<f32>(p)))
    }
    const low = max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1))
    const high = max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3))
    store<f32>(y + ((<usize>t) << 2), max(one, max(low, high)))
  }
}

/** of the blocks that numbers i to i + 3 are in: their values */
function fours(values: usize, i: i32, block: i32): v128 {
  const b = i / block
  const p = values + ((<usize>b) << 2)
  if (i + 4 <= (b + 1) * block) return v128.load32_splat(p)
  let v = v128.load32_zero(p)
  v = v128.load32_lane(values + ((<usize>((i + 1) / block)) << 2), v, 1)
  v = v128.load32_lane(values + ((<usize>((i + 2) / block)) << 2), v, 2)
  return v128.load32_lane(values + ((<usize>((i + 3) / block)) << 2), v, 3)
}

const INFINITE = 0x7f800000

/** clamp(round(x/by) + zero, 0, most) of four; by infinity where it is 0, so that 0 comes out */
function steps(x: v128, by: v128, zero: v128, most: v128): v128 {
  const divisor = v128.bitselect(i32x4.splat(INFINITE), by, f32x4.eq(by, f32x4.splat(0)))
  const v = f32x4.add(f32x4.nearest(f32x4.div(x, divisor)), zero)
  return i32x4.trunc_sat_f32x4_s(f32x4.pmin(most, f32x4.pmax(f32x4.splat(0), v)))
}

function bytes(a: v128, b: v128, c: v128, d: v128): v128 {
  return i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
}

/** 16 codes, a byte each → 2·bits bytes */
function pack(codes: v128, bits: i32, y: usize): void {
  if (bits === 8) {
    v128.store(y, codes)
    return
  }
  // neighbours move together: to 2, 4 and 8 codes in 16, 32 and 64 bits
  const pairs: i32 = (1 << (2 * bits)) - 1
  const two = v128.and(v128.or(codes, i16x8.shr_u(codes, 8 - bits)), i16x8.splat(<i16>pairs))
  if (bits === 4) {
    v128.store64_lane(y, i8x16.narrow_i16x8_u(two, two), 0)
    return
  }
  const four = v128.and(v128.or(two, i32x4.shr_u(two, 16 - 2 * bits)), i32x4.splat((1 << (4 * bits)) - 1))
  const eight = v128.or(four, i64x2.shr_u(four, 32 - 4 * bits))
  const mask = ((<i64>1) << (8 * bits)) - 1
  const all = (i64x2.extract_lane(eight, 0) & mask) | ((i64x2.extract_lane(eight, 1) & mask) << (8 * bits))
  if (bits === 1) store<u16>(y, <u16>all)
  else store<u32>(y, <u32>all)
  if (bits === 3) store<u16>(y, <u16>(all >> 32), 4)
}

/**
 * clamp(round(x/scale) + zero, 0, most) of numbers [from, to), `block` sharing a scale and, where `each` is 4 and not 0, a
 * zero, as a stream of codes, lowest bit first; `from` is a multiple of 32. Zeros are whole numbers.
 */
export function uniformCodes(
  x: usize,
  scale: usize,
  zero: usize,
  each: i32,
  bits: i32,
  most: f32,
  block: i32,
  from: i32,
  to: i32,
  q: usize,
): void {
  const top = f32x4.splat(most)
  const alone = v128.load32_splat(zero)
  let i = from
  let p = x + ((<usize>i) << 2)
  let y = q + <usize>(i >> 3) * bits
  while (i + 16 <= to) {
    const b = i / block
    const end = min((b + 1) * block, to)
    if (i + 16 <= end) {
      const s = v128.load32_splat(scale + ((<usize>b) << 2))
      const z = v128.load32_splat(zero + <usize>b * each)
      for (; i + 16 <= end; i += 16, p += 64, y += 2 * bits) {
        const c0 = steps(v128.load(p), s, z, top)
        const c1 = steps(v128.load(p, 16), s, z, top)
        const c2 = steps(v128.load(p, 32), s, z, top)
        const c3 = steps(v128.load(p, 48), s, z, top)
        pack(bytes(c0, c1, c2, c3), bits, y)
      }
    } else {
      const z0 = each ? fours(zero, i, block) : alone
      const z1 = each ? fours(zero, i + 4, block) : alone
      const z2 = each ? fours(zero, i + 8, block) : alone
      const z3 = each ? fours(zero, i + 12, block) : alone
      const c0 = steps(v128.load(p), fours(scale, i, block), z0, top)
      const c1 = steps(v128.load(p, 16), fours(scale, i + 4, block), z1, top)
      const c2 = steps(v128.load(p, 32), fours(scale, i + 8, block), z2, top)
      const c3 = steps(v128.load(p, 48), fours(scale, i + 12, block), z3, top)
      pack(bytes(c0, c1, c2, c3), bits, y)
      i += 16
      p += 64
      y += 2 * bits
    }
  }
  let word: u32 = 0
  for (let fill = 0; i < to; i++, p += 4) {
    const b = <usize>(i / block)
    const s = v128.load32_splat(scale + (b << 2))
    const code = <u32>i32x4.extract_lane(steps(v128.load32_splat(p), s, v128.load32_splat(zero + b * each), top), 0)
    word |= code << fill
    for (fill += bits; fill >= 8 || (i + 1 === to && fill > 0); fill -= 8, word >>= 8) store<u8>(y++, <u8>word)
  }
}

/** 1 where x is not negative, as a stream of bits, of numbers [from, to); `from` is a multiple of 32 */
export function signs(x: usize, from: i32, to: i32, q: usize): void {
  const none = f32x4.splat(0)
  let p = x + ((<usize>from) << 2)
  for (let i = from; i < to; i += 32) {
    let word: u32 = 0
    if (i + 32 <= to) {
      for (let k = 0; k < 32; k += 4, p += 16) word |= (<u32>i32x4.bitmask(f32x4.ge(v128.load(p), none))) << k
    } else for (let k = 0; i + k < to; k++, p += 4) word |= (<u32>(load<f32>(p) >= 0)) << k
    store<u32>(q + (<usize>i >> 3), word)
  }
}

/** clamp(round(x·factor), −127, 127) of four */
function signed(x: v128, factor: v128): v128 {
  const v = f32x4.nearest(f32x4.mul(x, factor))
  return i32x4.trunc_sat_f32x4_s(f32x4.max(f32x4.splat(-127), f32x4.min(f32x4.splat(127), v)))
}

/** round(127·x/scale) of numbers [from, to), a byte each, `block` sharing a scale */
export function linearCodes(x: usize, scale: usize, block: i32, from: i32, to: i32, q: usize): void {
  for (let b = from / block; from < to; b++) {
    const s = load<f32>(scale + ((<usize>b) << 2))
    const factor = f32x4.splat(s > 0 ? <f32>127 * (<f32>1 / s) : 0)
    const end = min((b + 1) * block, to)
    let p = x + ((<usize>from) << 2)
    for (; from + 16 <= end; from += 16, p += 64) {
      const low = i16x8.narrow_i32x4_s(signed(v128.load(p), factor), signed(v128.load(p, 16), factor))
      const high = i16x8.narrow_i32x4_s(signed(v128.load(p, 32), factor), signed(v128.load(p, 48), factor))
      v128.store(q + from, i8x16.narrow_i16x8_s(low, high))
    }
    for (; from < end; from++, p += 4)
      store<u8>(q + from, <u8>i32x4.extract_lane(signed(v128.load32_splat(p), factor), 0))
  }
}

/** 8-bit floats of four numbers: halves to the even one, the largest where there is no larger */
function floats(v: v128, mantissa: i32, bias: i32, largest: v128): v128 {
  const drop = 23 - mantissa
  const a = f32x4.min(f32x4.abs(v), largest)
  const even = v128.and(i32x4.shr_u(a, drop), i32x4.splat(1))
  const up = i32x4.add(i32x4.add(a, i32x4.splat((1 << (drop - 1)) - 1)), even)
  const large = i32x4.sub(i32x4.shr_u(up, drop), i32x4.splat((127 - bias) << mantissa))
  // below the least normal number steps are even
  const small = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(a, f32x4.splat(<f32>(1 << (bias + mantissa - 1))))))
  const code = v128.bitselect(small, large, i32x4.lt_s(a, i32x4.splat((128 - bias) << 23)))
  return v128.or(code, v128.and(i32x4.shr_u(v, 24), i32x4.splat(128)))
}

/** 8-bit floats of x/scale of numbers [from, to): a scale for each `tall` rows and `wide` columns */
export function tileCodes(
  x: usize,
  scale: usize,
  mantissa: i32,
  bias: i32,
  largest: f32,
  width: i32,
  tall: i32,
  wide: i32,
  from: i32,
  to: i32,
  q: usize,
): void {
  const across = (width + wide - 1) / wide
  const most = f32x4.splat(largest)
  while (from < to) {
    const row = from / width
    const tile = (from - row * width) / wide
    const s = load<f32>(scale + ((<usize>((row / tall) * across + tile)) << 2))
    const by = f32x4.splat(s)
    const some = i32x4.splat(s > 0 ? -1 : 0)
    const end = min(row * width + min((tile + 1) * wide, width), to)
    let p = x + ((<usize>from) << 2)
    for (; from + 16 <= end; from += 16, p += 64) {
      const c0 = floats(v128.and(some, f32x4.div(v128.load(p), by)), mantissa, bias, most)
      const c1 = floats(v128.and(some, f32x4.div(v128.load(p, 16), by)), mantissa, bias, most)
      const c2 = floats(v128.and(some, f32x4.div(v128.load(p, 32), by)), mantissa, bias, most)
      const c3 = floats(v128.and(some, f32x4.div(v128.load(p, 48), by)), mantissa, bias, most)
      v128.store(q + from, bytes(c0, c1, c2, c3))
    }
    for (; from < end; from++, p += 4) {
      const v = v128.and(some, f32x4.div(v128.load32_splat(p), by))
      store<u8>(q + from, <u8>i32x4.extract_lane(floats(v, mantissa, bias, most), 0))
    }
  }
}

/** clamp(round(x/by), −1, 1) + 1 of four; 1 where `by` is not above 0 */
function digits(x: v128, by: v128): v128 {
  const divisor = v128.bitselect(by, i32x4.splat(INFINITE), f32x4.gt(by, f32x4.splat(0)))
  const v = f32x4.pmin(f32x4.splat(1), f32x4.pmax(f32x4.splat(-1), f32x4.nearest(f32x4.div(x, divisor))))
  return i32x4.add(i32x4.trunc_sat_f32x4_s(v), i32x4.splat(1))
}

/** round(x/scale) of 20 numbers to a word of four bytes, five digits of base 3 each, the first worth 1: numbers [from, to), from a multiple of 20 */
export function tritCodes(x: usize, scale: usize, block: i32, from: i32, to: i32, q: usize): void {
  let y = q + <usize>(from / 20) * 4
  let i = from
  for (; i + 20 <= to; i += 20, y += 4) {
    const p = x + ((<usize>i) << 2)
    const b = i / block
    const s = v128.load32_splat(scale + ((<usize>b) << 2))
    const one = i + 20 <= (b + 1) * block
    // number k is worth 3^(k mod 5) in byte ⌊k/5⌋, and no byte overflows
    let sum = i32x4.mul(digits(v128.load(p), one ? s : fours(scale, i, block)), i32x4(1, 3, 9, 27))
    const d1 = digits(v128.load(p, 16), one ? s : fours(scale, i + 4, block))
    sum = i32x4.add(sum, i32x4.mul(d1, i32x4(81, 1 << 8, 3 << 8, 9 << 8)))
    const d2 = digits(v128.load(p, 32), one ? s : fours(scale, i + 8, block))
    sum = i32x4.add(sum, i32x4.mul(d2, i32x4(27 << 8, 81 << 8, 1 << 16, 3 << 16)))
    const d3 = digits(v128.load(p, 48), one ? s : fours(scale, i + 12, block))
    sum = i32x4.add(sum, i32x4.mul(d3, i32x4(9 << 16, 27 << 16, 81 << 16, 1 << 24)))
    const d4 = digits(v128.load(p, 64), one ? s : fours(scale, i + 16, block))
    sum = i32x4.add(sum, i32x4.mul(d4, i32x4(3 << 24, 9 << 24, 27 << 24, 81 << 24)))
    const pair = i32x4.add(sum, i64x2.shuffle(sum, sum, 1, 0))
    store<i32>(y, i32x4.extract_lane(pair, 0) + i32x4.extract_lane(pair, 1))
  }
  for (; i < to; y++) {
    let byte = 0
    for (let power = 1, k = 0; k < 5 && i < to; k++, i++, power *= 3) {
      const by = v128.load32_splat(scale + ((<usize>(i / block)) << 2))
      byte += power * i32x4.extract_lane(digits(v128.load32_splat(x + ((<usize>i) << 2)), by), 0)
    }
    store<u8>(y, <u8>byte)
  }
}

/** the upper bits of four, rounded, halves to the even one */
function upper(u: v128, drop: i32): v128 {
  const even = v128.and(i32x4.shr_u(u, drop), i32x4.splat(1))
  return i32x4.shr_u(i32x4.add(i32x4.add(u, i32x4.splat((1 << (drop - 1)) - 1)), even), drop)
}
function held(v: v128, most: f32): v128 {
  return f32x4.max(f32x4.splat(-most), f32x4.min(f32x4.splat(most), v))
}
function half(x: v128): v128 {
  const v = held(x, 65504)
  const a = f32x4.abs(v)
  // below 2⁻¹⁴ steps are 2⁻²⁴; float32 rounds to that when 1/2 is added
  const small = i32x4.sub(f32x4.add(a, f32x4.splat(0.5)), i32x4.splat(0x3f000000))
  const large = i32x4.sub(upper(a, 13), i32x4.splat(112 << 10))
  const code = v128.bitselect(small, large, i32x4.lt_s(a, i32x4.splat(0x38800000)))
  return v128.or(code, v128.and(i32x4.shr_u(v, 16), i32x4.splat(0x8000)))
}
function bfloat(x: v128): v128 {
  return upper(held(x, reinterpret<f32>(0x7f7f0000)), 16)
}

/** float16 of numbers [from, to) */
export function halfCodes(x: usize, from: i32, to: i32, q: usize): void {
  let p = x + ((<usize>from) << 2)
  let y = q + ((<usize>from) << 1)
  for (; from + 8 <= to; from += 8, p += 32, y += 16)
    v128.store(y, i16x8.narrow_i32x4_u(half(v128.load(p)), half(v128.load(p, 16))))
  for (; from < to; from++, p += 4, y += 2) store<u16>(y, <u16>i32x4.extract_lane(half(v128.load32_splat(p)), 0))
}

/** bfloat16 */
export function bfloatCodes(x: usize, from: i32, to: i32, q: usize): void {
  let p = x + ((<usize>from) << 2)
  let y = q + ((<usize>from) << 1)
  for (; from + 8 <= to; from += 8, p += 32, y += 16)
    v128.store(y, i16x8.narrow_i32x4_u(bfloat(v128.load(p)), bfloat(v128.load(p, 16))))
  for (; from < to; from++, p += 4, y += 2) store<u16>(y, <u16>i32x4.extract_lane(bfloat(v128.load32_splat(p)), 0))
}
