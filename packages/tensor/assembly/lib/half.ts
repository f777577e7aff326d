/** 16-bit floats as float32: n of them from `src` on to `dst` and on. In place where src is the upper half of dst: all is read before it is overwritten. */

/** bfloat16: the upper half of a float32 */
export function bfloats(src: usize, dst: usize, n: i32): void {
  const zero = i16x8.splat(0)
  for (; n >= 8; n -= 8, src += 16, dst += 32) {
    const w = v128.load(src)
    v128.store(dst, i16x8.shuffle(zero, w, 0, 8, 1, 9, 2, 10, 3, 11))
    v128.store(dst, i16x8.shuffle(zero, w, 4, 12, 5, 13, 6, 14, 7, 15), 16)
  }
  for (; n > 0; n--, src += 2, dst += 4) store<u32>(dst, (<u32>load<u16>(src)) << 16)
}

/** float16 */
export function halves(src: usize, dst: usize, n: i32): void {
  for (; n >= 8; n -= 8, src += 16, dst += 32) {
    const w = v128.load(src)
    v128.store(dst, half(w))
    v128.store(dst, half(i64x2.shuffle(w, w, 1, 1)), 16)
  }
  for (; n > 0; n--, src += 2, dst += 4) store<f32>(dst, f32x4.extract_lane(half(i16x8.splat(<i16>load<u16>(src))), 0))
}

/** four float16, in the low half of `x`: exact, with subnormal numbers, infinities and NaN */
function half(x: v128): v128 {
  const wide = i32x4.extend_low_i16x8_u(x)
  const sign = i32x4.shl(v128.and(wide, i32x4.splat(0x8000)), 16)
  const rest = v128.and(wide, i32x4.splat(0x7fff))
  // exponent and fraction in the places of a float32's, 2¹¹² too small: the product mends subnormal numbers too
  const scaled = f32x4.mul(i32x4.shl(rest, 13), f32x4.splat(5.192296858534828e33))
  const special = v128.and(i32x4.ge_s(rest, i32x4.splat(0x7c00)), i32x4.splat(0x7f800000))
  return v128.or(sign, v128.or(scaled, special))
}
