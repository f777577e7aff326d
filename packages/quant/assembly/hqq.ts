import { madd, power2 } from '../../tensor/assembly/lib/math'

/** Half-quadratic quantization, four groups at a time, one in each lane: sums go along a group. */

// where the routines find what does not change, in words
const W: usize = 0 // float32 [count, size], or [size, count] by columns
const SCALE: usize = 4 // float32 [count], multiplies
const ZERO: usize = 8 // float32 [count]
const ROOM: usize = 12 // size·16 bytes for each thread
const SIZE: usize = 16
const COUNT: usize = 20
const COLUMNS: usize = 24 // groups are columns
const MOST: usize = 28 // the largest code, float32
const POWER: usize = 32 // p − 1, float32

/** numbers of a group that are added up before they go to its sum */
const STRETCH: i32 = 64

function wordAt(p: usize): usize {
  return <usize>load<u32>(p)
}

/** log₂ x of x > 0 that is no denormal, to 1e-7: x = 2ᵉ·m with m from √½ to √2, and a polynomial of degree 8 in m − 1 */
function log2(x: v128): v128 {
  const e = i32x4.shr_s(i32x4.sub(x, i32x4.splat(0x3f3504f3)), 23)
  const f = f32x4.sub(i32x4.sub(x, i32x4.shl(e, 23)), f32x4.splat(1))
  let p = madd(f32x4.splat(-0.1430288), f, f32x4.splat(0.23570254))
  p = madd(p, f, f32x4.splat(-0.25048995))
  p = madd(p, f, f32x4.splat(0.28688693))
  p = madd(p, f, f32x4.splat(-0.36006561))
  p = madd(p, f, f32x4.splat(0.48093224))
  p = madd(p, f, f32x4.splat(-0.7213575))
  p = madd(p, f, f32x4.splat(1.4426948))
  return madd(p, f, f32x4.convert_i32x4_s(e))
}

/** a number of each of four groups, the last of all groups again where there are no four */
function lanes(x: usize, first: i32, count: i32): v128 {
  if (first + 4 <= count) return v128.load(x + ((<usize>first) << 2))
  let v = f32x4.splat(load<f32>(x + ((<usize>(count - 1)) << 2)))
  const n = count - first
  v = f32x4.replace_lane(v, 0, load<f32>(x + ((<usize>first) << 2)))
  if (n > 1) v = f32x4.replace_lane(v, 1, load<f32>(x + ((<usize>first) << 2), 4))
  if (n > 2) v = f32x4.replace_lane(v, 2, load<f32>(x + ((<usize>first) << 2), 8))
  return v
}
/** the inverse; lanes behind the last group are left out */
function keepLanes(x: usize, first: i32, count: i32, v: v128): void {
  const at = x + ((<usize>first) << 2)
  if (first + 4 <= count) {
    v128.store(at, v)
    return
  }
  const n = count - first
  store<f32>(at, f32x4.extract_lane(v, 0))
  if (n > 1) store<f32>(at, f32x4.extract_lane(v, 1), 4)
  if (n > 2) store<f32>(at, f32x4.extract_lane(v, 2), 8)
}

/** the numbers of four groups side by side */
function gather(p: usize, first: i32, room: usize): void {
  const w = wordAt(p + W)
  const size = load<i32>(p + SIZE)
  const count = load<i32>(p + COUNT)
  if (load<i32>(p + COLUMNS)) {
    for (let i = 0; i < size; i++)
      v128.store(room + ((<usize>i) << 4), lanes(w + ((<usize>i * <usize>count) << 2), first, count))
    return
  }
  for (let g = 0; g < 4; g++) {
    let from = w + ((<usize>min(first + g, count - 1) * <usize>size) << 2)
    let to = room + ((<usize>g) << 2)
    for (const end = to + ((<usize>size) << 4); to < end; to += 16, from += 4) store<f32>(to, load<f32>(from))
  }
}

function codes(w: v128, s: v128, z: v128, most: v128): v128 {
  const v = f32x4.nearest(f32x4.add(f32x4.mul(w, s), z))
  return f32x4.pmax(f32x4.splat(0), f32x4.pmin(v, most))
}

/** Σ|W − W_r| of each group, and if `next` is an address the zero points that come next go there */
function turn(p: usize, room: usize, s: v128, z: v128, inverse: f32, next: usize): v128 {
  const size = load<i32>(p + SIZE)
  const most = f32x4.splat(load<f32>(p + MOST))
  const power = f32x4.splat(load<f32>(p + POWER))
  const part = f32x4.splat(inverse)
  const zero = f32x4.splat(0)
  const sign = f32x4.splat(-0.0)
  let errors = zero
  let zeros = zero
  for (let i = 0; i < size; i += STRETCH) {
    let error = zero
    let moved = zero
    let x = room + ((<usize>i) << 4)
    for (const end = room + ((<usize>min(i + STRETCH, size)) << 4); x < end; x += 16) {
      const w = v128.load(x)
      const q = codes(w, s, z, most)
      const rest = f32x4.sub(w, f32x4.div(f32x4.sub(q, z), s))
      const far = f32x4.abs(rest)
      error = f32x4.add(error, far)
      if (!next) continue
      const far1 = f32x4.pmax(far, f32x4.splat(1e-30))
      const less = f32x4.sub(far1, f32x4.mul(power2(f32x4.pmin(f32x4.mul(power, log2(far1)), f32x4.splat(127))), part))
      const e = v128.or(f32x4.pmax(zero, less), v128.and(rest, sign))
      moved = f32x4.add(moved, f32x4.sub(q, f32x4.mul(f32x4.sub(w, e), s)))
    }
    errors = f32x4.add(errors, error)
    zeros = f32x4.add(zeros, moved)
  }
  if (next) v128.store(next, f32x4.div(zeros, f32x4.splat(<f32>size)))
  return errors
}

/** codes of four groups, to where their numbers are in W */
function putCodes(p: usize, first: i32, room: usize, s: v128, z: v128, y: usize): void {
  const size = load<i32>(p + SIZE)
  const count = load<i32>(p + COUNT)
  const most = f32x4.splat(load<f32>(p + MOST))
  const columns = load<i32>(p + COLUMNS)
  for (let i = 0; i < size; i++) {
    const at = room + ((<usize>i) << 4)
    const q = codes(v128.load(at), s, z, most)
    if (columns) keepLanes(y + ((<usize>i * <usize>count) << 2), first, count, q)
    else v128.store(at, q)
  }
  if (columns) return
  for (let g = 0; g < min(4, count - first); g++) {
    let from = room + ((<usize>g) << 2)
    let to = y + ((<usize>(first + g) * <usize>size) << 2)
    for (const end = from + ((<usize>size) << 4); from < end; from += 16, to += 4) store<f32>(to, load<f32>(from))
  }
}

/**
 * Groups [4·from, 4·to): the zero point with the smallest Σ|W − W_r| of `turns` + 1 to `zero`, and the codes by it to `y`. β grows
 * by κ with each turn. `step` has 16 bytes for each thread.
 */
export function best(
  p: usize,
  from: i32,
  to: i32,
  turns: i32,
  beta: f64,
  kappa: f64,
  zero: usize,
  y: usize,
  step: usize,
  thread: i32,
): void {
  const count = load<i32>(p + COUNT)
  const room = wordAt(p + ROOM) + ((<usize>thread * <usize>load<i32>(p + SIZE)) << 4)
  const next = step + ((<usize>thread) << 4)
  for (let first = 4 * from; first < min(4 * to, count); first += 4) {
    gather(p, first, room)
    const s = lanes(wordAt(p + SCALE), first, count)
    let z = lanes(wordAt(p + ZERO), first, count)
    let kept = z
    let least = f32x4.splat(3e38)
    let b = beta
    for (let i = 0; i < turns; i++, b *= kappa) {
      const error = turn(p, room, s, z, <f32>(1 / b), next)
      const better = f32x4.lt(error, least)
      kept = v128.bitselect(z, kept, better)
      least = v128.bitselect(error, least, better)
      z = v128.load(next)
    }
    const error = turn(p, room, s, z, 0, 0)
    kept = v128.bitselect(z, kept, f32x4.lt(error, least))
    keepLanes(zero, first, count, kept)
    putCodes(p, first, room, s, kept, y)
  }
}

/** one turn of groups [4·from, 4·to): their Σ|W − W_r| to `errors`, the zero points that come next to `zero` [count] */
export function once(
  p: usize,
  from: i32,
  to: i32,
  beta: f64,
  errors: usize,
  zero: usize,
  step: usize,
  thread: i32,
): void {
  const count = load<i32>(p + COUNT)
  const room = wordAt(p + ROOM) + ((<usize>thread * <usize>load<i32>(p + SIZE)) << 4)
  const next = step + ((<usize>thread) << 4)
  for (let first = 4 * from; first < min(4 * to, count); first += 4) {
    gather(p, first, room)
    const s = lanes(wordAt(p + SCALE), first, count)
    const z = lanes(wordAt(p + ZERO), first, count)
    keepLanes(errors, first, count, turn(p, room, s, z, <f32>(1 / beta), next))
    keepLanes(zero, first, count, v128.load(next))
  }
}

/** codes of groups [4·from, 4·to) by their zero points to `y` */
export function rounded(p: usize, from: i32, to: i32, y: usize, thread: i32): void {
  const count = load<i32>(p + COUNT)
  const room = wordAt(p + ROOM) + ((<usize>thread * <usize>load<i32>(p + SIZE)) << 4)
  for (let first = 4 * from; first < min(4 * to, count); first += 4) {
    gather(p, first, room)
    putCodes(p, first, room, lanes(wordAt(p + SCALE), first, count), lanes(wordAt(p + ZERO), first, count), y)
  }
}
