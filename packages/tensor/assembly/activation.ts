/**
 * Activations f with their derivatives, alone and as gates. A kind is a type, told by its size, so that each has a loop
 * of its own: u8 silu, u16 gelu, u32 gelu_tanh, u64 relu, v128 tanh.
 */
import { erfc } from './lib/erf'
import { tanh as hyperbolic, madd, power2 } from './lib/math'

function negative(x: v128): v128 {
  return f32x4.lt(x, f32x4.splat(0))
}
/** what silu and gelu_tanh = x·σ(2u) give to σ: x itself, or 2u = 2·√(2/π)·(x + 0.044715·x³) */
function inner<K>(x: v128): v128 {
  if (sizeof<K>() === 1) return x
  const cubic = madd(f32x4.mul(x, x), f32x4.splat(0.044715), f32x4.splat(1))
  return f32x4.mul(f32x4.mul(x, f32x4.splat(1.59576912)), cubic)
}
/** the exponential that f and its derivative share: exp(−x²/2) for gelu, exp(−|x|) for a sigmoid, nothing for others */
function bell<K>(x: v128): v128 {
  if (sizeof<K>() > 4) return x
  const squared = f32x4.mul(f32x4.mul(x, x), f32x4.splat(-0.72134752))
  const linear = f32x4.mul(f32x4.abs(inner<K>(x)), f32x4.splat(-1.44269504))
  return power2(sizeof<K>() === 2 ? squared : linear)
}
/** 1/(1 + e), the larger of σ and 1 − σ */
function larger(e: v128): v128 {
  return f32x4.div(f32x4.splat(1), f32x4.add(f32x4.splat(1), e))
}
/** Φ(x), the normal distribution's integral: half of erfc(−x/√2) */
function integral(x: v128, e: v128): v128 {
  const tail = f32x4.mul(f32x4.splat(0.5), erfc(f32x4.mul(f32x4.abs(x), f32x4.splat(0.70710678)), e))
  return v128.bitselect(tail, f32x4.sub(f32x4.splat(1), tail), negative(x))
}
/** what f and its derivative share: σ, Φ(x), tanh(x) */
function core<K>(x: v128, e: v128): v128 {
  if (sizeof<K>() === 2) return integral(x, e)
  if (sizeof<K>() <= 4) return f32x4.mul(larger(e), v128.bitselect(e, f32x4.splat(1), negative(x)))
  if (sizeof<K>() === 8) return x
  return hyperbolic(x)
}
function value<K>(x: v128, k: v128): v128 {
  if (sizeof<K>() <= 4) return f32x4.mul(x, k)
  if (sizeof<K>() === 8) return f32x4.pmax(x, f32x4.splat(0)) // which keeps NaN
  return k
}
function derivative<K>(x: v128, k: v128, e: v128): v128 {
  const one = f32x4.splat(1)
  if (sizeof<K>() === 2) return madd(f32x4.mul(x, f32x4.splat(0.39894228)), e, k) // Φ + x·φ
  if (sizeof<K>() === 8) return v128.and(f32x4.gt(x, f32x4.splat(0)), one)
  if (sizeof<K>() === 16) return f32x4.sub(one, f32x4.mul(k, k))
  // σ + x·σ·(1 − σ), where σ·(1 − σ) = e/(1 + e)²; for gelu_tanh times 2u′ = 2·√(2/π)·(1 + 3·0.044715·x²)
  const r = larger(e)
  const slope = f32x4.mul(f32x4.mul(f32x4.mul(r, r), e), x)
  if (sizeof<K>() === 1) return f32x4.add(k, slope)
  return madd(slope, f32x4.mul(madd(f32x4.mul(x, x), f32x4.splat(0.134145), one), f32x4.splat(1.59576912)), k)
}

/**
 * Over n ≥ 4 numbers, in one pass: y = f(x)·up, dx = dy·up·f′(x), dup = dy·f(x). An address of 0 stands for what is not
 * wanted, and for an `up` of ones. The last four numbers may be done twice.
 */
function pass<K>(x: usize, up: usize, y: usize, dy: usize, dx: usize, dup: usize, n: i32): void {
  const last = (<usize>(n - 4)) << 2
  const bytes = (<usize>n) << 2
  for (let i: usize = 0; i < bytes; i += 16) {
    const at = min(i, last)
    const v = v128.load(x + at)
    const e = bell<K>(v)
    const k = core<K>(v, e)
    const f = value<K>(v, k)
    const u = up ? v128.load(up + at) : f32x4.splat(1)
    if (y) v128.store(y + at, f32x4.mul(f, u))
    if (dy) {
      const d = v128.load(dy + at)
      if (dup) v128.store(dup + at, f32x4.mul(d, f))
      if (dx) v128.store(dx + at, f32x4.mul(f32x4.mul(d, u), derivative<K>(v, k, e)))
    }
  }
}

export function silu(x: usize, up: usize, y: usize, dy: usize, dx: usize, dup: usize, n: i32): void {
  pass<u8>(x, up, y, dy, dx, dup, n)
}
export function gelu(x: usize, up: usize, y: usize, dy: usize, dx: usize, dup: usize, n: i32): void {
  pass<u16>(x, up, y, dy, dx, dup, n)
}
export function gelu_tanh(x: usize, up: usize, y: usize, dy: usize, dx: usize, dup: usize, n: i32): void {
  pass<u32>(x, up, y, dy, dx, dup, n)
}
export function relu(x: usize, up: usize, y: usize, dy: usize, dx: usize, dup: usize, n: i32): void {
  pass<u64>(x, up, y, dy, dx, dup, n)
}
export function tanh(x: usize, up: usize, y: usize, dy: usize, dx: usize, dup: usize, n: i32): void {
  pass<v128>(x, up, y, dy, dx, dup, n)
}
