/** Activations f with their derivatives, alone and as gates, over n numbers. Kinds: 0 silu, 1 gelu, 2 gelu_tanh, 3 relu, 4 tanh. */
import { erfc } from './lib/erf'
import { exp, madd, tanh } from './lib/math'

function negative(x: v128): v128 {
  return f32x4.lt(x, f32x4.splat(0))
}
/** what silu and gelu_tanh = x·σ(2u) give to σ: x itself, or 2u = 2·√(2/π)·(x + 0.044715·x³) */
function inner(kind: i32, x: v128): v128 {
  if (kind === 0) return x
  const cubic = madd(f32x4.mul(x, x), f32x4.splat(0.044715), f32x4.splat(1))
  return f32x4.mul(f32x4.mul(x, f32x4.splat(1.59576912)), cubic)
}
/** the exponential that f and its derivative share: exp(−x²/2) for gelu, exp(−|x|) for a sigmoid, nothing for others */
function bell(kind: i32, x: v128): v128 {
  if (kind === 1) return exp(f32x4.mul(f32x4.mul(x, x), f32x4.splat(-0.5)))
  if (kind > 2) return x
  return exp(f32x4.neg(f32x4.abs(inner(kind, x))))
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
function core(kind: i32, x: v128, e: v128): v128 {
  if (kind === 1) return integral(x, e)
  if (kind <= 2) return f32x4.mul(larger(e), v128.bitselect(e, f32x4.splat(1), negative(x)))
  if (kind === 3) return x
  return tanh(x)
}
function value(kind: i32, x: v128, k: v128): v128 {
  if (kind <= 2) return f32x4.mul(x, k)
  if (kind === 3) return f32x4.max(x, f32x4.splat(0))
  return k
}
function derivative(kind: i32, x: v128, k: v128, e: v128): v128 {
  const one = f32x4.splat(1)
  if (kind === 1) return madd(f32x4.mul(x, f32x4.splat(0.39894228)), e, k) // Φ + x·φ
  if (kind === 3) return v128.and(f32x4.gt(x, f32x4.splat(0)), one)
  if (kind === 4) return f32x4.sub(one, f32x4.mul(k, k))
  // σ + x·σ·(1 − σ), where σ·(1 − σ) = e/(1 + e)²; for gelu_tanh times 2u′ = 2·√(2/π)·(1 + 3·0.044715·x²)
  const r = larger(e)
  const slope = f32x4.mul(f32x4.mul(f32x4.mul(r, r), e), x)
  if (kind === 0) return f32x4.add(k, slope)
  return madd(slope, f32x4.mul(madd(f32x4.mul(x, x), f32x4.splat(0.134145), one), f32x4.splat(1.59576912)), k)
}

/** four numbers, or as many as are left */
function read(at: usize, left: i32): v128 {
  if (left >= 4) return v128.load(at)
  let v = v128.load32_zero(at)
  if (left > 1) v = f32x4.replace_lane(v, 1, load<f32>(at, 4))
  if (left > 2) v = f32x4.replace_lane(v, 2, load<f32>(at, 8))
  return v
}
function write(at: usize, v: v128, left: i32): void {
  if (left >= 4) {
    v128.store(at, v)
    return
  }
  store<f32>(at, f32x4.extract_lane(v, 0))
  if (left > 1) store<f32>(at, f32x4.extract_lane(v, 1), 4)
  if (left > 2) store<f32>(at, f32x4.extract_lane(v, 2), 8)
}

/** y = f(x) */
export function activate(x: usize, y: usize, n: i32, kind: i32): void {
  for (let left = n; left > 0; left -= 4) {
    const v = read(x, left)
    write(y, value(kind, v, core(kind, v, bell(kind, v))), left)
    x += 16
    y += 16
  }
}

/** dx = dy·f′(x) */
export function slope(x: usize, dy: usize, dx: usize, n: i32, kind: i32): void {
  for (let left = n; left > 0; left -= 4) {
    const v = read(x, left)
    const e = bell(kind, v)
    write(dx, f32x4.mul(read(dy, left), derivative(kind, v, core(kind, v, e), e)), left)
    x += 16
    dy += 16
    dx += 16
  }
}

/** y = f(gate)·up */
export function glu(gate: usize, up: usize, y: usize, n: i32, kind: i32): void {
  for (let left = n; left > 0; left -= 4) {
    const v = read(gate, left)
    write(y, f32x4.mul(value(kind, v, core(kind, v, bell(kind, v))), read(up, left)), left)
    gate += 16
    up += 16
    y += 16
  }
}

/** dgate = dy·up·f′(gate), dup = dy·f(gate), in one pass; an address of 0 where one is not wanted */
export function gluSlope(gate: usize, up: usize, dy: usize, dgate: usize, dup: usize, n: i32, kind: i32): void {
  for (let left = n, i: usize = 0; left > 0; left -= 4, i += 16) {
    const v = read(gate + i, left)
    const d = read(dy + i, left)
    const e = bell(kind, v)
    const k = core(kind, v, e)
    if (dup) write(dup + i, f32x4.mul(d, value(kind, v, k)), left)
    if (dgate) write(dgate + i, f32x4.mul(f32x4.mul(d, read(up + i, left)), derivative(kind, v, k, e)), left)
  }
}
