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

/** eˣ to about 2 units in the last place: x = n·ln 2 + r, a polynomial of degree 6 in r, n into the exponent */
export function exp(x: v128): v128 {
  const t = f32x4.min(f32x4.max(x, f32x4.splat(-87.33)), f32x4.splat(88.72))
  const n = f32x4.nearest(f32x4.mul(t, f32x4.splat(1.44269504)))
  const r = madd(n, f32x4.splat(2.1219444e-4), madd(n, f32x4.splat(-0.693359375), t))
  let p = madd(f32x4.splat(1.98756915e-4), r, f32x4.splat(1.3981999507e-3))
  p = madd(p, r, f32x4.splat(8.3334519073e-3))
  p = madd(p, r, f32x4.splat(4.1665795894e-2))
  p = madd(p, r, f32x4.splat(1.6666665459e-1))
  p = madd(p, r, f32x4.splat(5.0000001201e-1))
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), f32x4.splat(1))
  // twice half the power, since 2¹²⁸ alone has no exponent
  const half = i32x4.shr_s(i32x4.trunc_sat_f32x4_s(n), 1)
  const rest = i32x4.sub(i32x4.trunc_sat_f32x4_s(n), half)
  const bias = i32x4.splat(127)
  return f32x4.mul(f32x4.mul(p, i32x4.shl(i32x4.add(half, bias), 23)), i32x4.shl(i32x4.add(rest, bias), 23))
}

/** eˣ of one number, equal to the lanes of `exp` */
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp(f32x4.splat(x)), 0)
}

/** tanh x to about 2 units in the last place: a polynomial near zero, where 1 − 2/(e²ˣ + 1) cancels */
export function tanh(x: v128): v128 {
  const size = f32x4.abs(x)
  const far = f32x4.sub(
    f32x4.splat(1),
    f32x4.div(f32x4.splat(2), f32x4.add(exp(f32x4.add(size, size)), f32x4.splat(1))),
  )
  const z = f32x4.mul(x, x)
  let p = madd(f32x4.splat(-5.70498872745e-3), z, f32x4.splat(2.06390887954e-2))
  p = madd(p, z, f32x4.splat(-5.37397155531e-2))
  p = madd(p, z, f32x4.splat(1.33314422036e-1))
  p = madd(p, z, f32x4.splat(-3.33332819422e-1))
  const near = madd(f32x4.mul(p, z), x, x)
  const signed = v128.or(far, v128.and(x, i32x4.splat(0x80000000)))
  return v128.bitselect(near, signed, f32x4.lt(size, f32x4.splat(0.625)))
}
