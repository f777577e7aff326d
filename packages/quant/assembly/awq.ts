import { madd, total } from '../../tensor/assembly/lib/math'

/** AWQ's search for the largest magnitude that a group may have. */

/** of a stretch of numbers, held within ±to: what a grid of 16 values makes of it, less the numbers; n is a multiple of 4 */
function rests(x: usize, n: i32, low: f32, high: f32, to: f32, y: usize): void {
  const lo = min<f32>(max<f32>(low, -to), 0)
  const hi = max<f32>(min<f32>(high, to), 0)
  const scale = max<f32>(hi - lo, 1e-5) / 15
  const z = f32x4.splat(min<f32>(max<f32>(-nearest<f32>(lo / scale), 0), 15))
  const s = f32x4.splat(scale)
  const most = f32x4.splat(15)
  const least = f32x4.splat(0)
  const up = f32x4.splat(to)
  const down = f32x4.splat(-to)
  for (const end = x + ((<usize>n) << 2); x < end; x += 16, y += 16) {
    const v = v128.load(x)
    const q = f32x4.add(f32x4.nearest(f32x4.div(f32x4.pmax(down, f32x4.pmin(v, up)), s)), z)
    const back = f32x4.mul(f32x4.sub(f32x4.pmax(least, f32x4.pmin(q, most)), z), s)
    v128.store(y, f32x4.sub(back, v))
  }
}

/** e·M·eᵀ of four rows of n numbers, n a multiple of 8, to `to`; M [n, n] */
function quadratic(e: usize, m: usize, n: i32, to: usize): void {
  const line = (<usize>n) << 2
  let t0 = f32x4.splat(0)
  let t1 = t0
  let t2 = t0
  let t3 = t0
  for (let b: usize = 0; b < line; b += 32) {
    let a0 = f32x4.splat(0)
    let a1 = a0
    let b0 = a0
    let b1 = a0
    let c0 = a0
    let c1 = a0
    let d0 = a0
    let d1 = a0
    let p = m + b
    for (let x = e, end = e + line; x < end; x += 4, p += line) {
      const u = v128.load(p)
      const v = v128.load(p, 16)
      let s = v128.load32_splat(x)
      a0 = madd(s, u, a0)
      a1 = madd(s, v, a1)
      s = v128.load32_splat(x + line)
      b0 = madd(s, u, b0)
      b1 = madd(s, v, b1)
      s = v128.load32_splat(x + 2 * line)
      c0 = madd(s, u, c0)
      c1 = madd(s, v, c1)
      s = v128.load32_splat(x + 3 * line)
      d0 = madd(s, u, d0)
      d1 = madd(s, v, d1)
    }
    const y = e + b
    t0 = madd(a0, v128.load(y), madd(a1, v128.load(y, 16), t0))
    t1 = madd(b0, v128.load(y + line), madd(b1, v128.load(y + line, 16), t1))
    t2 = madd(c0, v128.load(y + 2 * line), madd(c1, v128.load(y + 2 * line, 16), t2))
    t3 = madd(d0, v128.load(y + 3 * line), madd(d1, v128.load(y + 3 * line, 16), t3))
  }
  store<f32>(to, total(t0))
  store<f32>(to, total(t1), 4)
  store<f32>(to, total(t2), 8)
  store<f32>(to, total(t3), 12)
}

/**
 * Rows [4·from, 4·to) of w [out, width]: the largest magnitude of each group of `block`, of 1 − i/steps of its own for i below
 * `tries`, with the least e·M·eᵀ, to `limit` [out, width/block]. `room` has (block + 4)·block + 64 floats for each thread.
 */
export function limits(
  w: usize,
  moment: usize,
  limit: usize,
  out: i32,
  width: i32,
  block: i32,
  tries: i32,
  steps: i32,
  from: i32,
  to: i32,
  room: usize,
  thread: i32,
): void {
  const line = (<usize>block) << 2
  const groups = width / block
  const m = room + <usize>thread * ((<usize>((block + 4) * block + 64)) << 2)
  const e = m + <usize>block * line
  const own = e + 4 * line // of four rows: lowest, highest, largest magnitude, error, least error, limit
  for (let g = 0; g < groups; g++) {
    const start = (<usize>(g * block)) << 2
    for (let a = 0; a < block; a++)
      memory.copy(m + <usize>a * line, moment + ((<usize>(g * block + a) * <usize>width) << 2) + start, line)
    for (let first = 4 * from; first < min(4 * to, out); first += 4) {
      for (let r = 0; r < 4; r++) {
        const x = w + ((<usize>min(first + r, out - 1) * <usize>width) << 2) + start
        let low = v128.load(x)
        let high = low
        for (let i: usize = 16; i < line; i += 16) {
          low = f32x4.pmin(low, v128.load(x + i))
          high = f32x4.pmax(high, v128.load(x + i))
        }
        let lo = f32x4.extract_lane(low, 0)
        lo = min(lo, f32x4.extract_lane(low, 1))
        lo = min(lo, f32x4.extract_lane(low, 2))
        lo = min(lo, f32x4.extract_lane(low, 3))
        let hi = f32x4.extract_lane(high, 0)
        hi = max(hi, f32x4.extract_lane(high, 1))
        hi = max(hi, f32x4.extract_lane(high, 2))
        hi = max(hi, f32x4.extract_lane(high, 3))
        const at = own + ((<usize>r) << 2)
        store<f32>(at, lo)
        store<f32>(at, hi, 16)
        store<f32>(at, max(-lo, hi), 32)
        store<f32>(at, 3e38, 64)
        store<f32>(at, max(-lo, hi), 80)
      }
      for (let i = 0; i < tries; i++) {
        const share = <f32>(1 - <f64>i / <f64>steps)
        for (let r = 0; r < 4; r++) {
          const at = own + ((<usize>r) << 2)
          const x = w + ((<usize>min(first + r, out - 1) * <usize>width) << 2) + start
          rests(x, block, load<f32>(at), load<f32>(at, 16), load<f32>(at, 32) * share, e + <usize>r * line)
        }
        quadratic(e, m, block, own + 48)
        for (let r = 0; r < 4; r++) {
          const at = own + ((<usize>r) << 2)
          if (!(load<f32>(at, 48) < load<f32>(at, 64))) continue
          store<f32>(at, load<f32>(at, 48), 64)
          store<f32>(at, load<f32>(at, 32) * share, 80)
        }
      }
      for (let r = 0; r < min(4, out - first); r++)
        store<f32>(limit + ((<usize>((first + r) * groups + g)) << 2), load<f32>(own + ((<usize>r) << 2), 80))
    }
  }
}
