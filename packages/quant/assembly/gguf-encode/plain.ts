/** F32, F16 and BF16. */

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

export function toF32(x: usize, rows: i32, width: i32, _c: usize, q: usize, _scratch: usize, _thread: i32): void {
  memory.copy(q, x, (<usize>rows * <usize>width) << 2)
}

export function toF16(x: usize, rows: i32, width: i32, _c: usize, q: usize, _scratch: usize, _thread: i32): void {
  let n = rows * width
  for (; n >= 8; n -= 8, x += 32, q += 16)
    v128.store(q, i16x8.narrow_i32x4_u(halfBits(v128.load(x)), halfBits(v128.load(x, 16))))
  for (; n > 0; n--, x += 4, q += 2) store<u16>(q, <u16>i32x4.extract_lane(halfBits(f32x4.splat(load<f32>(x))), 0))
}

export function toBf16(x: usize, rows: i32, width: i32, _c: usize, q: usize, _scratch: usize, _thread: i32): void {
  let n = rows * width
  for (; n >= 8; n -= 8, x += 32, q += 16) {
    const a = upperBits(v128.load(x))
    v128.store(q, i16x8.shuffle(a, upperBits(v128.load(x, 16)), 1, 3, 5, 7, 9, 11, 13, 15))
  }
  for (; n > 0; n--, x += 4, q += 2)
    store<u16>(q, <u16>(i32x4.extract_lane(upperBits(f32x4.splat(load<f32>(x))), 0) >>> 16))
}
