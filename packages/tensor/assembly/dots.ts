import { madd, total } from './lib/math'

/** y[i·ldy + j] = x[i]·w[j] over k, for m rows of x and n of w: few rows of x, and of w what a first-level cache holds */
export function dots(x: usize, w: usize, y: usize, m: i32, n: i32, k: i32, ldy: i32): void {
  const row = (<usize>k) << 2
  const step = (<usize>ldy) << 2
  let i = 0
  for (; i + 2 <= m; i += 2, x += 2 * row, y += 2 * step) {
    let j = 0
    for (; j + 4 <= n; j += 4) two(x, w + <usize>j * row, y + ((<usize>j) << 2), row, step)
    for (; j < n; j++) {
      store<f32>(y + ((<usize>j) << 2), one(x, w + <usize>j * row, row))
      store<f32>(y + ((<usize>j) << 2) + step, one(x + row, w + <usize>j * row, row))
    }
  }
  if (i < m) {
    let j = 0
    for (; j + 4 <= n; j += 4) four(x, w + <usize>j * row, y + ((<usize>j) << 2), row)
    for (; j < n; j++) store<f32>(y + ((<usize>j) << 2), one(x, w + <usize>j * row, row))
  }
}

function one(x: usize, w: usize, bytes: usize): f32 {
  let sum = f32x4.splat(0)
  const wide = bytes & ~15
  for (let t: usize = 0; t < wide; t += 16) sum = madd(v128.load(x + t), v128.load(w + t), sum)
  let found = total(sum)
  for (let t = wide; t < bytes; t += 4) found += load<f32>(x + t) * load<f32>(w + t)
  return found
}

/** a row of x with four of w */
function four(x: usize, w0: usize, y: usize, bytes: usize): void {
  const w1 = w0 + bytes
  const w2 = w1 + bytes
  const w3 = w2 + bytes
  let s0 = f32x4.splat(0)
  let s1 = s0
  let s2 = s0
  let s3 = s0
  const wide = bytes & ~15
  for (let t: usize = 0; t < wide; t += 16) {
    const v = v128.load(x + t)
    s0 = madd(v, v128.load(w0 + t), s0)
    s1 = madd(v, v128.load(w1 + t), s1)
    s2 = madd(v, v128.load(w2 + t), s2)
    s3 = madd(v, v128.load(w3 + t), s3)
  }
  v128.store(y, f32x4.add(totals(s0, s1, s2, s3), rest(x, w0, wide, bytes)))
}

/** two rows of x with four of w */
function two(x: usize, w0: usize, y: usize, bytes: usize, step: usize): void {
  const w1 = w0 + bytes
  const w2 = w1 + bytes
  const w3 = w2 + bytes
  let s0 = f32x4.splat(0)
  let s1 = s0
  let s2 = s0
  let s3 = s0
  let r0 = s0
  let r1 = s0
  let r2 = s0
  let r3 = s0
  const wide = bytes & ~15
  for (let t: usize = 0; t < wide; t += 16) {
    const v = v128.load(x + t)
    const u = v128.load(x + bytes + t)
    const a = v128.load(w0 + t)
    const b = v128.load(w1 + t)
    const c = v128.load(w2 + t)
    const d = v128.load(w3 + t)
    s0 = madd(v, a, s0)
    s1 = madd(v, b, s1)
    s2 = madd(v, c, s2)
    s3 = madd(v, d, s3)
    r0 = madd(u, a, r0)
    r1 = madd(u, b, r1)
    r2 = madd(u, c, r2)
    r3 = madd(u, d, r3)
  }
  v128.store(y, f32x4.add(totals(s0, s1, s2, s3), rest(x, w0, wide, bytes)))
  v128.store(y + step, f32x4.add(totals(r0, r1, r2, r3), rest(x + bytes, w0, wide, bytes)))
}

/** what is left of four rows of w, past the last whole vector */
function rest(x: usize, w: usize, from: usize, to: usize): v128 {
  let sum = f32x4.splat(0)
  for (let t = from; t < to; t += 4) {
    let v = v128.load32_zero(w + t)
    v = v128.load32_lane(w + to + t, v, 1)
    v = v128.load32_lane(w + 2 * to + t, v, 2)
    v = v128.load32_lane(w + 3 * to + t, v, 3)
    sum = madd(v128.load32_splat(x + t), v, sum)
  }
  return sum
}

/** the sum of the lanes of each */
function totals(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(i32x4.shuffle(a, b, 0, 4, 1, 5), i32x4.shuffle(a, b, 2, 6, 3, 7))
  const cd = f32x4.add(i32x4.shuffle(c, d, 0, 4, 1, 5), i32x4.shuffle(c, d, 2, 6, 3, 7))
  return f32x4.add(i64x2.shuffle(ab, cd, 0, 2), i64x2.shuffle(ab, cd, 1, 3))
}
