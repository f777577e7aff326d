/** The optimizer's part of a step, in place: n numbers from each address. */
import { madd, total } from './lib/math'

/** four numbers, or the `left` < 4 that end an array (the others are 0) */
function take(at: usize, left: usize): v128 {
  if (left >= 16) return v128.load(at)
  let x = v128.load32_zero(at)
  if (left > 4) x = v128.replace_lane<f32>(x, 1, load<f32>(at + 4))
  if (left > 8) x = v128.replace_lane<f32>(x, 2, load<f32>(at + 8))
  return x
}
function put(at: usize, left: usize, x: v128): void {
  if (left >= 16) {
    v128.store(at, x)
    return
  }
  store<f32>(at, f32x4.extract_lane(x, 0))
  if (left > 4) store<f32>(at + 4, f32x4.extract_lane(x, 1))
  if (left > 8) store<f32>(at + 8, f32x4.extract_lane(x, 2))
}

/**
 * m ← b1·m + c1·g, v ← b2·v + c2·g², g ← rate·m/(√v·root + ε) + decay·p. `rate` holds the step's scale and the correction
 * of m, `root` the correction of v; p is not read where decay is 0.
 */
export function adam(
  g: usize,
  m: usize,
  v: usize,
  p: usize,
  n: i32,
  b1: f32,
  c1: f32,
  b2: f32,
  c2: f32,
  eps: f32,
  rate: f32,
  root: f32,
  decay: f32,
): void {
  const bytes = (<usize>n) << 2
  const decays = decay !== 0
  for (let i: usize = 0; i < bytes; i += 16) {
    const left = bytes - i
    const x = take(g + i, left)
    const first = madd(take(m + i, left), f32x4.splat(b1), f32x4.mul(x, f32x4.splat(c1)))
    const second = madd(take(v + i, left), f32x4.splat(b2), f32x4.mul(f32x4.mul(x, x), f32x4.splat(c2)))
    put(m + i, left, first)
    put(v + i, left, second)
    const below = f32x4.add(f32x4.mul(f32x4.sqrt(second), f32x4.splat(root)), f32x4.splat(eps))
    let u = f32x4.div(f32x4.mul(first, f32x4.splat(rate)), below)
    if (decays) u = madd(take(p + i, left), f32x4.splat(decay), u)
    put(g + i, left, u)
  }
}

/** Σ x², added up in pieces of 4 KB so that long sums stay exact */
export function squares(x: usize, n: i32): f64 {
  const end = x + ((<usize>n) << 2)
  let sum: f64 = 0
  while (x < end) {
    const stop = min(end, x + 4096)
    let part = f32x4.splat(0)
    for (; x < stop; x += 16) {
      const v = take(x, stop - x)
      part = madd(v, v, part)
    }
    sum += <f64>total(part)
  }
  return sum
}

/** x ← s·x */
export function scale(x: usize, n: i32, s: f32): void {
  const bytes = (<usize>n) << 2
  for (let i: usize = 0; i < bytes; i += 16) put(x + i, bytes - i, f32x4.mul(take(x + i, bytes - i), f32x4.splat(s)))
}

/** y ← y + s·x */
export function add(y: usize, x: usize, n: i32, s: f32): void {
  const bytes = (<usize>n) << 2
  for (let i: usize = 0; i < bytes; i += 16)
    put(y + i, bytes - i, madd(take(x + i, bytes - i), f32x4.splat(s), take(y + i, bytes - i)))
}
