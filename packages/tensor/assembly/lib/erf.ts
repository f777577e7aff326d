import { madd } from './math'

/**
 * erfc(z) for z ≥ 0, given e = exp(−z²): e·t·P(t) with t = 1/(1 + z/2) and P of degree 8, interpolated at Chebyshev
 * nodes on z ≤ 10; within 3e-7 of the value itself, so that tails keep their digits.
 */
export function erfc(z: v128, e: v128): v128 {
  const one = f32x4.splat(1)
  const t = f32x4.div(one, madd(z, f32x4.splat(0.5), one))
  let p = madd(f32x4.splat(-0.0597149208), t, f32x4.splat(0.287768304))
  p = madd(p, t, f32x4.splat(-0.493863642))
  p = madd(p, t, f32x4.splat(0.285697699))
  p = madd(p, t, f32x4.splat(-0.0318417586))
  p = madd(p, t, f32x4.splat(0.204853654))
  p = madd(p, t, f32x4.splat(0.242572889))
  p = madd(p, t, f32x4.splat(0.282445043))
  p = madd(p, t, f32x4.splat(0.282082677))
  return f32x4.mul(f32x4.mul(e, t), p)
}
