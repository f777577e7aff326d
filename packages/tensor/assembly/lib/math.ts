/** Elementary functions on four float32 at a time. No tables: a module must not bring data into the shared heap. */

/** a·b + c, in one rounding where the runtime has relaxed SIMD */
export function madd(a: v128, b: v128, c: v128): v128 {
  if (isDefined(RELAXED)) return f32x4.relaxed_madd(a, b, c)
  return f32x4.add(f32x4.mul(a, b), c)
}

/** Σ of the four lanes */
export function total(x: v128): f32 {
  const pairs = f32x4.add(x, v128.shuffle<f32>(x, x, 2, 3, 0, 1))
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1)
}

/** eˣ to about 2 units in the last place: x = n·ln 2 + r, a polynomial of degree 7 in r, n into the exponent */
export function exp(x: v128): v128 {
  // these two keep NaN on their left, and are one instruction where min and max are many
  const t = f32x4.pmin(f32x4.pmax(x, f32x4.splat(-87.33)), f32x4.splat(88.72))
  // adding 1.5·2²³ rounds to n and leaves it in the low bits
  const rounded = madd(t, f32x4.splat(1.44269504), f32x4.splat(12582912))
  const n = f32x4.sub(rounded, f32x4.splat(12582912))
  const r = madd(n, f32x4.splat(2.1219444e-4), madd(n, f32x4.splat(-0.693359375), t))
  let p = madd(f32x4.splat(1.98756915e-4), r, f32x4.splat(1.3981999507e-3))
  p = madd(p, r, f32x4.splat(8.3334519073e-3))
  p = madd(p, r, f32x4.splat(4.1665795894e-2))
  p = madd(p, r, f32x4.splat(1.6666665459e-1))
  p = madd(p, r, f32x4.splat(5.0000001201e-1))
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), f32x4.splat(1))
  // twice half the power, since 2¹²⁸ alone has no exponent
  const whole = i32x4.sub(rounded, i32x4.splat(0x4b400000))
  const half = i32x4.shr_s(whole, 1)
  const rest = i32x4.sub(whole, half)
  const bias = i32x4.splat(127)
  return f32x4.mul(f32x4.mul(p, i32x4.shl(i32x4.add(half, bias), 23)), i32x4.shl(i32x4.add(rest, bias), 23))
}

/** eˣ of one number, equal to the lanes of `exp` */
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp(f32x4.splat(x)), 0)
}

/**
 * 2ˣ for x ≤ 0 to about 2 units in the last place; half the work of `exp`. x = n + r: adding 1.5·2²³ rounds to n and
 * leaves it in the low bits, from where it goes into the exponent; a polynomial of degree 5 in r.
 */
export function power2(x: v128): v128 {
  const t = f32x4.pmax(x, f32x4.splat(-126)) // pmax keeps NaN on its left
  const rounded = f32x4.add(t, f32x4.splat(12582912))
  const r = f32x4.sub(t, f32x4.sub(rounded, f32x4.splat(12582912)))
  let p = madd(f32x4.splat(1.32764725e-3), r, f32x4.splat(9.67554096e-3))
  p = madd(p, r, f32x4.splat(5.55071309e-2))
  p = madd(p, r, f32x4.splat(2.40221202e-1))
  p = madd(p, r, f32x4.splat(6.93146944e-1))
  p = madd(p, r, f32x4.splat(1))
  return f32x4.mul(p, i32x4.add(i32x4.shl(rounded, 23), i32x4.splat(0x3f800000)))
}

/** 2ˣ of one number ≤ 0, equal to the lanes of `power2` */
export function power2of1(x: f32): f32 {
  return f32x4.extract_lane(power2(f32x4.splat(x)), 0)
}

/** tanh x to about 2 units in the last place: a polynomial near zero, where (1 − e⁻²ˣ)/(1 + e⁻²ˣ) cancels */
export function tanh(x: v128): v128 {
  const one = f32x4.splat(1)
  const size = f32x4.abs(x)
  const u = power2(f32x4.mul(size, f32x4.splat(-2.88539008)))
  const far = f32x4.div(f32x4.sub(one, u), f32x4.add(one, u))
  const z = f32x4.mul(x, x)
  let p = madd(f32x4.splat(-5.70498872745e-3), z, f32x4.splat(2.06390887954e-2))
  p = madd(p, z, f32x4.splat(-5.37397155531e-2))
  p = madd(p, z, f32x4.splat(1.33314422036e-1))
  p = madd(p, z, f32x4.splat(-3.33332819422e-1))
  const near = madd(f32x4.mul(p, z), x, x)
  const signed = v128.or(far, v128.and(x, i32x4.splat(0x80000000)))
  return v128.bitselect(near, signed, f32x4.lt(size, f32x4.splat(0.625)))
}
