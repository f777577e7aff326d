/** float32 → codes by blocks, and what blocks are scaled by. */

/** max |x| of blocks [from, to) of `block` numbers each, n in all */
export function absmax(x: usize, block: i32, n: i32, from: i32, to: i32, y: usize): void {
  for (let b = from; b < to; b++) {
    const start = b * block
    const end = min(start + block, n)
    let p = x + ((<usize>start) << 2)
    const stop = x + ((<usize>end) << 2)
    let most = f32x4.splat(0)
    for (; p + 16 <= stop; p += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(p)))
    let one = max(
      max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
      max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
    )
    for (; p < stop; p += 4) one = max(one, abs(load<f32>(p)))
    store<f32>(y + ((<usize>b) << 2), one)
  }
}

/** of each stretch of x, from the one to before the other: the first number that is NaN or infinite; −1 where there is none */
export function oddIn(x: usize, stretch: i32, n: i32, from: i32, to: i32, y: usize): void {
  for (let s = from; s < to; s++) store<i32>(y + ((<usize>s) << 2), odd(x, s * stretch, min((s + 1) * stretch, n)))
}

function odd(x: usize, from: i32, to: i32): i32 {
  const exponent = i32x4.splat(0x7f800000)
  let i = from
  for (; i + 16 <= to; i += 16) {
    const p = x + ((<usize>i) << 2)
    const a = i32x4.eq(v128.and(v128.load(p), exponent), exponent)
    const b = i32x4.eq(v128.and(v128.load(p, 16), exponent), exponent)
    const c = i32x4.eq(v128.and(v128.load(p, 32), exponent), exponent)
    const d = i32x4.eq(v128.and(v128.load(p, 48), exponent), exponent)
    if (v128.any_true(v128.or(v128.or(a, b), v128.or(c, d)))) break
  }
  for (; i < to; i++) if ((load<i32>(x + ((<usize>i) << 2)) & 0x7f800000) === 0x7f800000) return i
  return -1
}

/** how many of 15 middles, each four times over, lie below each of v */
function rank(v: v128, middles: usize): v128 {
  let n = i32x4.splat(0)
  for (let m = middles, end = middles + 240; m < end; m += 48) {
    n = i32x4.sub(n, f32x4.lt(v128.load(m), v))
    n = i32x4.sub(n, f32x4.lt(v128.load(m, 16), v))
    n = i32x4.sub(n, f32x4.lt(v128.load(m, 32), v))
  }
  return n
}

/** four numbers over the scale: held to [−1, 1] */
function part(x: usize, inverse: v128): v128 {
  const v = f32x4.mul(v128.load(x), inverse)
  return f32x4.max(f32x4.splat(-1), f32x4.min(f32x4.splat(1), v))
}

/**
 * Codes of the nearest of 16 levels, two a byte, the first in the high half, of blocks [from, to) of a multiple of 16 numbers
 * each that are all full. `tables` begins with the 15 middles, each four times, and then has the codes in rising order of
 * their levels, a byte each; no scale is below `least`.
 */
export function nearest16(
  x: usize,
  scale: usize,
  tables: usize,
  block: i32,
  least: f32,
  from: i32,
  to: i32,
  q: usize,
): void {
  const order = v128.load(tables, 240)
  for (let b = from; b < to; b++) {
    const inverse = f32x4.splat(1 / max(load<f32>(scale + ((<usize>b) << 2)), least))
    const start = <usize>b * <usize>block
    let p = x + (start << 2)
    let y = q + (start >> 1)
    for (const end = p + ((<usize>block) << 2); p < end; p += 64, y += 8) {
      const low = i16x8.narrow_i32x4_s(rank(part(p, inverse), tables), rank(part(p + 16, inverse), tables))
      const high = i16x8.narrow_i32x4_s(rank(part(p + 32, inverse), tables), rank(part(p + 48, inverse), tables))
      const codes = i8x16.swizzle(order, i8x16.narrow_i16x8_u(low, high))
      // of each pair the first goes up, the second down
      const pairs = v128.and(v128.or(i16x8.shl(codes, 4), i16x8.shr_u(codes, 8)), i16x8.splat(255))
      v128.store64_lane(y, i8x16.narrow_i16x8_u(pairs, pairs), 0)
    }
  }
}

/**
 * Codes of the nearest of 256 levels, a byte each, of blocks [from, to), the last one maybe short: `middles` lie between the
 * levels in rising order, `order` has their codes in 32 bits. No scale is below `least`. A short block is divided.
 */
export function nearest256(
  x: usize,
  scale: usize,
  middles: usize,
  order: usize,
  least: f32,
  block: i32,
  n: i32,
  from: i32,
  to: i32,
  q: usize,
): void {
  for (let b = from; b < to; b++) {
    const s = max(load<f32>(scale + ((<usize>b) << 2)), least)
    const inverse: f32 = 1 / s
    const start = b * block
    const end = min(start + block, n)
    const short = end - start < block
    for (let i = start; i < end; i++) {
      const given = load<f32>(x + ((<usize>i) << 2))
      const v = max(<f32>-1, min(<f32>1, short ? given / s : given * inverse))
      // halves of what is left, without a branch that half of the time is not foreseen
      let m = middles
      m += (<usize>(load<f32>(m, 508) < v)) << 9
      m += (<usize>(load<f32>(m, 252) < v)) << 8
      m += (<usize>(load<f32>(m, 124) < v)) << 7
      m += (<usize>(load<f32>(m, 60) < v)) << 6
      m += (<usize>(load<f32>(m, 28) < v)) << 5
      m += (<usize>(load<f32>(m, 12) < v)) << 4
      m += (<usize>(load<f32>(m, 4) < v)) << 3
      m += (<usize>(load<f32>(m) < v)) << 2
      store<u8>(q + i, load<u8>(order + (m - middles)))
    }
  }
}
