/**
 * The part of attention between its matrix products: scores → probabilities on a tile of query rows by keys, and back.
 * Row i of a tile sees its columns from first + i to last + i; the others count as hidden. Scores are in units of ln 2,
 * for 2ˣ is cheaper than eˣ. Beside each row of queries stand two numbers: its largest score so far and the sum of
 * exponentials relative to it (in the end one over that sum).
 */
import { madd, power2, power2of1, tanh, total } from './lib/math'

const NONE: f32 = -3.0e38
const LOG2E: f32 = 1.44269504
/** keys that meet all rows at a time */
const BLOCK = 64

/** scores of one row in place of its products from `at` to `end`: scaled, capped as c·tanh(s/c), biased */
function bend(at: usize, end: usize, scale: f32, cap: f32, bias: usize): void {
  const wide = at + ((end - at) & ~15)
  const unit = f32x4.splat(LOG2E)
  const inside = f32x4.splat(cap !== 0 ? scale / cap : scale * LOG2E)
  const outside = f32x4.splat(cap * LOG2E)
  const shift = bias - at
  for (; at < wide; at += 16) {
    let s = f32x4.mul(v128.load(at), inside)
    if (cap !== 0) s = f32x4.mul(tanh(s), outside)
    if (bias !== 0) s = madd(v128.load(at + shift), unit, s)
    v128.store(at, s)
  }
  for (; at < end; at += 4) {
    let s = f32x4.mul(v128.load32_splat(at), inside)
    if (cap !== 0) s = f32x4.mul(tanh(s), outside)
    if (bias !== 0) s = madd(v128.load32_splat(at + shift), unit, s)
    store<f32>(at, f32x4.extract_lane(s, 0))
  }
}

function largest(x: v128): f32 {
  return max<f32>(
    max<f32>(f32x4.extract_lane(x, 0), f32x4.extract_lane(x, 1)),
    max<f32>(f32x4.extract_lane(x, 2), f32x4.extract_lane(x, 3)),
  )
}

/** x·factor for `width` floats */
function stretch(x: usize, width: i32, factor: f32): void {
  const end = x + ((<usize>width) << 2)
  const wide = x + ((<usize>(width & ~3)) << 2)
  for (; x < wide; x += 16) v128.store(x, f32x4.mul(v128.load(x), f32x4.splat(factor)))
  for (; x < end; x += 4) store<f32>(x, load<f32>(x) * factor)
}

/** One row of products [n] → exponentials relative to the running maximum; → factor for what was summed before. */
function softmaxRow(row: usize, n: i32, a: i32, b: i32, stats: usize, scale: f32, cap: f32, bias: usize): f32 {
  const from = row + ((<usize>a) << 2)
  const to = row + ((<usize>b) << 2)
  const wide = from + ((to - from) & ~15)
  let factor: f32 = scale * LOG2E
  if (cap !== 0 || bias !== 0) {
    bend(from, to, scale, cap, bias === 0 ? 0 : bias + from - row)
    factor = 1
  }
  const factors = f32x4.splat(factor)
  const before = load<f32>(stats)
  let most = f32x4.splat(before)
  let at = from
  for (; at < wide; at += 16) most = f32x4.pmax(f32x4.mul(v128.load(at), factors), most)
  let top = largest(most)
  for (; at < to; at += 4) top = max<f32>(top, load<f32>(at) * factor)
  memory.fill(row, 0, from - row)
  memory.fill(to, 0, row + ((<usize>n) << 2) - to)
  let sums = f32x4.splat(0)
  const peak = f32x4.splat(top)
  for (at = from; at < wide; at += 16) {
    const p = power2(f32x4.sub(f32x4.mul(v128.load(at), factors), peak))
    v128.store(at, p)
    sums = f32x4.add(sums, p)
  }
  let sum = total(sums)
  for (; at < to; at += 4) {
    const p = power2of1(load<f32>(at) * factor - top)
    store<f32>(at, p)
    sum += p
  }
  const shrink = power2of1(before - top)
  store<f32>(stats, top)
  store<f32>(stats + 4, load<f32>(stats + 4) * shrink + sum)
  return shrink
}

function clamp(x: i32, n: i32): i32 {
  return min<i32>(max<i32>(x, 0), n)
}

/**
 * A tile [rows, n] of products q·k → exponentials; y [rows, width] so far shrinks where the maximum grew.
 * `fresh`: the row's first keys, nothing was summed before. `bias` moves by `biasStep` bytes from row to row.
 */
export function softmax(
  tile: usize,
  rows: i32,
  n: i32,
  first: i32,
  last: i32,
  stats: usize,
  y: usize,
  width: i32,
  fresh: i32,
  scale: f32,
  cap: f32,
  bias: usize,
  biasStep: i32,
): void {
  for (let i = 0; i < rows; i++) {
    if (fresh) {
      store<f32>(stats, NONE)
      store<f32>(stats + 4, 0)
    }
    const shrink = softmaxRow(tile, n, clamp(first + i, n), clamp(last + i, n), stats, scale, cap, bias)
    if (!fresh && shrink !== 1) stretch(y, width, shrink)
    tile += (<usize>n) << 2
    y += (<usize>width) << 2
    stats += 8
    bias += biasStep
  }
}

/** y [rows, width] over its sums, which become one over the sum */
export function normalize(y: usize, rows: i32, width: i32, stats: usize): void {
  for (let i = 0; i < rows; i++) {
    const inverse: f32 = 1 / load<f32>(stats + 4)
    store<f32>(stats + 4, inverse)
    stretch(y, width, inverse)
    y += (<usize>width) << 2
    stats += 8
  }
}

function dot(a: usize, b: usize, n: i32): f32 {
  const end = a + ((<usize>n) << 2)
  const wide = a + ((<usize>(n & ~3)) << 2)
  let sums = f32x4.splat(0)
  for (; a < wide; a += 16, b += 16) sums = madd(v128.load(a), v128.load(b), sums)
  let sum = total(sums)
  for (; a < end; a += 4, b += 4) sum += load<f32>(a) * load<f32>(b)
  return sum
}

/**
 * Two tiles [rows, n], products q·k and slopes dy·v → probabilities p and the products' slopes
 * p·(dp − Σ dy·y)·scale·(1 − tanh²).
 */
export function slopes(
  tile: usize,
  pull: usize,
  rows: i32,
  n: i32,
  first: i32,
  last: i32,
  stats: usize,
  dy: usize,
  y: usize,
  width: i32,
  scale: f32,
  cap: f32,
  bias: usize,
  biasStep: i32,
): void {
  const bytes = (<usize>n) << 2
  const rowBytes = (<usize>width) << 2
  const across = pull - tile
  const one = f32x4.splat(1)
  const unit = f32x4.splat(LOG2E)
  const inside = f32x4.splat(cap !== 0 ? scale / cap : scale * LOG2E)
  const outside = f32x4.splat(cap * LOG2E)
  for (let i = 0; i < rows; i++) {
    const from = tile + ((<usize>clamp(first + i, n)) << 2)
    const to = tile + ((<usize>clamp(last + i, n)) << 2)
    const wide = from + ((to - from) & ~15)
    const shift = bias - tile
    memory.fill(tile, 0, from - tile)
    memory.fill(tile + across, 0, from - tile)
    memory.fill(to, 0, tile + bytes - to)
    memory.fill(to + across, 0, tile + bytes - to)
    const along = f32x4.splat(dot(dy, y, width))
    const top = v128.load32_splat(stats)
    const inverse = v128.load32_splat(stats, 4)
    let at = from
    for (; at < wide; at += 16) {
      let s = f32x4.mul(v128.load(at), inside)
      let slope = f32x4.splat(scale)
      if (cap !== 0) {
        const t = tanh(s)
        s = f32x4.mul(t, outside)
        slope = f32x4.mul(slope, f32x4.sub(one, f32x4.mul(t, t)))
      }
      if (bias !== 0) s = madd(v128.load(at + shift), unit, s)
      const p = f32x4.mul(power2(f32x4.sub(s, top)), inverse)
      v128.store(at, p)
      v128.store(at + across, f32x4.mul(f32x4.mul(p, f32x4.sub(v128.load(at + across), along)), slope))
    }
    for (; at < to; at += 4) {
      let s = f32x4.mul(v128.load32_splat(at), inside)
      let slope = f32x4.splat(scale)
      if (cap !== 0) {
        const t = tanh(s)
        s = f32x4.mul(t, outside)
        slope = f32x4.mul(slope, f32x4.sub(one, f32x4.mul(t, t)))
      }
      if (bias !== 0) s = madd(v128.load32_splat(at + shift), unit, s)
      const p = f32x4.mul(power2(f32x4.sub(s, top)), inverse)
      const ds = f32x4.mul(f32x4.mul(p, f32x4.sub(v128.load32_splat(at + across), along)), slope)
      store<f32>(at, f32x4.extract_lane(p, 0))
      store<f32>(at + across, f32x4.extract_lane(ds, 0))
    }
    tile += bytes
    stats += 8
    dy += rowBytes
    y += rowBytes
    bias += biasStep
  }
}

/** q [width] against n rows of k, from a to b → scores [n] */
function dots(q: usize, k: usize, width: i32, scores: usize, a: i32, b: i32): void {
  const bytes = (<usize>width) << 2
  const wide = bytes & ~15
  let j = a
  for (; j + 4 <= b; j += 4) {
    const k0 = k + <usize>j * bytes
    const k1 = k0 + bytes
    const k2 = k1 + bytes
    const k3 = k2 + bytes
    let s0 = f32x4.splat(0)
    let s1 = s0
    let s2 = s0
    let s3 = s0
    let c: usize = 0
    for (; c < wide; c += 16) {
      const x = v128.load(q + c)
      s0 = madd(x, v128.load(k0 + c), s0)
      s1 = madd(x, v128.load(k1 + c), s1)
      s2 = madd(x, v128.load(k2 + c), s2)
      s3 = madd(x, v128.load(k3 + c), s3)
    }
    // four rows of lanes, summed as columns
    const even = f32x4.add(v128.shuffle<f32>(s0, s1, 0, 4, 2, 6), v128.shuffle<f32>(s0, s1, 1, 5, 3, 7))
    const odd = f32x4.add(v128.shuffle<f32>(s2, s3, 0, 4, 2, 6), v128.shuffle<f32>(s2, s3, 1, 5, 3, 7))
    let sums = f32x4.add(v128.shuffle<f32>(even, odd, 0, 1, 4, 5), v128.shuffle<f32>(even, odd, 2, 3, 6, 7))
    for (; c < bytes; c += 4) {
      let x = f32x4.splat(load<f32>(k0 + c))
      x = f32x4.replace_lane(x, 1, load<f32>(k1 + c))
      x = f32x4.replace_lane(x, 2, load<f32>(k2 + c))
      x = f32x4.replace_lane(x, 3, load<f32>(k3 + c))
      sums = madd(f32x4.splat(load<f32>(q + c)), x, sums)
    }
    v128.store(scores + ((<usize>j) << 2), sums)
  }
  for (; j < b; j++) store<f32>(scores + ((<usize>j) << 2), dot(q, k + <usize>j * bytes, width))
}

/** Σ p·v over the rows of v from a to b, added to y [width] */
function mix(p: usize, v: usize, width: i32, y: usize, a: i32, b: i32): void {
  const bytes = (<usize>width) << 2
  const end = p + ((<usize>b) << 2)
  p += (<usize>a) << 2
  v += <usize>a * bytes
  let c: usize = 0
  for (; c + 64 <= bytes; c += 64) {
    let s0 = v128.load(y + c)
    let s1 = v128.load(y + c, 16)
    let s2 = v128.load(y + c, 32)
    let s3 = v128.load(y + c, 48)
    let x = v + c
    for (let at = p; at < end; at += 4, x += bytes) {
      const w = v128.load32_splat(at)
      s0 = madd(w, v128.load(x), s0)
      s1 = madd(w, v128.load(x, 16), s1)
      s2 = madd(w, v128.load(x, 32), s2)
      s3 = madd(w, v128.load(x, 48), s3)
    }
    v128.store(y + c, s0)
    v128.store(y + c, s1, 16)
    v128.store(y + c, s2, 32)
    v128.store(y + c, s3, 48)
  }
  for (; c + 16 <= bytes; c += 16) {
    let s = v128.load(y + c)
    let x = v + c
    for (let at = p; at < end; at += 4, x += bytes) s = madd(v128.load32_splat(at), v128.load(x), s)
    v128.store(y + c, s)
  }
  for (; c < bytes; c += 4) {
    let s = load<f32>(y + c)
    let x = v + c
    for (let at = p; at < end; at += 4, x += bytes) s += load<f32>(at) * load<f32>(x)
    store<f32>(y + c, s)
  }
}

/**
 * Rows that share their keys, without a tile: for few queries, where a product of matrices has nothing to share. The
 * rows are of one query in several heads (`slide` 0) or of successive queries (1); `scores` has room for rows·n.
 * A block of keys, then of values, meets all rows while it is in the first cache.
 */
export function attend(
  q: usize,
  k: usize,
  v: usize,
  y: usize,
  stats: usize,
  scores: usize,
  rows: i32,
  n: i32,
  width: i32,
  valueWidth: i32,
  first: i32,
  last: i32,
  slide: i32,
  scale: f32,
  cap: f32,
  bias: usize,
  biasStep: i32,
): void {
  const rowBytes = (<usize>valueWidth) << 2
  for (let j = 0; j < n; j += BLOCK) {
    const end = min<i32>(j + BLOCK, n)
    for (let i = 0; i < rows; i++) {
      const a = max<i32>(j, clamp(first + i * slide, n))
      const b = min<i32>(end, clamp(last + i * slide, n))
      dots(q + ((<usize>(i * width)) << 2), k, width, scores + ((<usize>(i * n)) << 2), a, b)
    }
  }
  memory.fill(y, 0, <usize>rows * rowBytes)
  for (let i = 0; i < rows; i++) {
    const at = stats + ((<usize>i) << 3)
    store<f32>(at, NONE)
    store<f32>(at + 4, 0)
    const a = clamp(first + i * slide, n)
    const b = clamp(last + i * slide, n)
    softmaxRow(scores + ((<usize>(i * n)) << 2), n, a, b, at, scale, cap, bias)
    bias += biasStep
  }
  for (let j = 0; j < n; j += BLOCK) {
    const end = min<i32>(j + BLOCK, n)
    for (let i = 0; i < rows; i++) {
      const a = max<i32>(j, clamp(first + i * slide, n))
      const b = min<i32>(end, clamp(last + i * slide, n))
      if (a < b) mix(scores + ((<usize>(i * n)) << 2), v, valueWidth, y + <usize>i * rowBytes, a, b)
    }
  }
  normalize(y, rows, valueWidth, stats)
}
