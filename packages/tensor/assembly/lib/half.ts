/** Four 16-bit floats, in the low half of `x`, as float32. */

export function bf16(x: v128): v128 {
  return i32x4.shl(i32x4.extend_low_i16x8_u(x), 16)
}

/** exact, with subnormal numbers, infinities and NaN */
export function f16(x: v128): v128 {
  const wide = i32x4.extend_low_i16x8_u(x)
  const sign = i32x4.shl(v128.and(wide, i32x4.splat(0x8000)), 16)
  const rest = v128.and(wide, i32x4.splat(0x7fff))
  // exponent and fraction in the places of a float32's, 2¹¹² too small: the product mends subnormal numbers too
  const scaled = f32x4.mul(i32x4.shl(rest, 13), f32x4.splat(5.192296858534828e33))
  const special = v128.and(i32x4.ge_s(rest, i32x4.splat(0x7c00)), i32x4.splat(0x7f800000))
  return v128.or(sign, v128.or(scaled, special))
}
