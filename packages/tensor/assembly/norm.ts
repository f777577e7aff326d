/** RMSNorm and LayerNorm of rows. An address of 0 stands for what is not there, or not wanted. */
import { madd, total } from './lib/math'

/** Σ x of a row */
function sum(x: usize, bytes: usize): f32 {
  let a = f32x4.splat(0)
  let b = f32x4.splat(0)
  let i: usize = 0
  for (const end = bytes & ~31; i < end; i += 32) {
    a = f32x4.add(v128.load(x + i), a)
    b = f32x4.add(v128.load(x + i, 16), b)
  }
  let rest: f32 = 0
  for (; i < bytes; i += 4) rest += load<f32>(x + i)
  return rest + total(f32x4.add(a, b))
}

/** Σ (x − mean)² of a row */
function squares(x: usize, bytes: usize, mean: f32): f32 {
  const m = f32x4.splat(mean)
  let a = f32x4.splat(0)
  let b = f32x4.splat(0)
  let c = f32x4.splat(0)
  let d = f32x4.splat(0)
  let i: usize = 0
  for (const end = bytes & ~63; i < end; i += 64) {
    const p = f32x4.sub(v128.load(x + i), m)
    const q = f32x4.sub(v128.load(x + i, 16), m)
    const r = f32x4.sub(v128.load(x + i, 32), m)
    const s = f32x4.sub(v128.load(x + i, 48), m)
    a = madd(p, p, a)
    b = madd(q, q, b)
    c = madd(r, r, c)
    d = madd(s, s, d)
  }
  let rest: f32 = 0
  for (; i < bytes; i += 4) rest += (load<f32>(x + i) - mean) * (load<f32>(x + i) - mean)
  return rest + total(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)))
}

/** y = a + b */
function plus(a: usize, b: usize, y: usize, bytes: usize): void {
  const wide = bytes & ~15
  for (let i: usize = 0; i < wide; i += 16) v128.store(y + i, f32x4.add(v128.load(a + i), v128.load(b + i)))
  for (let i = wide; i < bytes; i += 4) store<f32>(y + i, load<f32>(a + i) + load<f32>(b + i))
}

/** y = a + b → Σ y² */
function plusSquares(a: usize, b: usize, y: usize, bytes: usize): f32 {
  let s = f32x4.splat(0)
  let t = f32x4.splat(0)
  let i: usize = 0
  for (const end = bytes & ~31; i < end; i += 32) {
    const p = f32x4.add(v128.load(a + i), v128.load(b + i))
    const q = f32x4.add(v128.load(a + i, 16), v128.load(b + i, 16))
    v128.store(y + i, p)
    v128.store(y + i, q, 16)
    s = madd(p, p, s)
    t = madd(q, q, t)
  }
  let rest: f32 = 0
  for (; i < bytes; i += 4) {
    const v = load<f32>(a + i) + load<f32>(b + i)
    store<f32>(y + i, v)
    rest += v * v
  }
  return rest + total(f32x4.add(s, t))
}

/**
 * y = (v − mean)·r·scale + bias with r = 1/√(mean (v − mean)² + ε), for `rows` rows of `width`; v = x, or x + branch,
 * which is kept in `sum`. Where not `centred`, the mean counts as 0. Keeps [mean, r] of each row in `stats`.
 */
export function normalize(
  x: usize,
  branch: usize,
  scale: usize,
  bias: usize,
  sums: usize,
  y: usize,
  stats: usize,
  rows: i32,
  width: i32,
  eps: f32,
  centred: i32,
): void {
  const bytes = (<usize>width) << 2
  const wide = bytes & ~15
  for (let row = 0; row < rows; row++) {
    let v = x
    let mean: f32 = 0
    let second: f32 = 0
    if (branch) {
      v = sums
      if (centred) plus(x, branch, sums, bytes)
      else second = plusSquares(x, branch, sums, bytes)
      sums += bytes
      branch += bytes
    }
    if (centred) mean = sum(v, bytes) / <f32>width
    if (centred || !branch) second = squares(v, bytes, mean)
    const r: f32 = 1 / sqrt<f32>(second / <f32>width + eps)
    if (stats) {
      store<f32>(stats, mean)
      store<f32>(stats, r, 4)
      stats += 8
    }
    const m = f32x4.splat(mean)
    const f = f32x4.splat(r)
    if (bias) {
      for (let i: usize = 0; i < wide; i += 16) {
        const n = f32x4.mul(f32x4.sub(v128.load(v + i), m), f)
        v128.store(y + i, madd(n, v128.load(scale + i), v128.load(bias + i)))
      }
      for (let i = wide; i < bytes; i += 4)
        store<f32>(y + i, (load<f32>(v + i) - mean) * r * load<f32>(scale + i) + load<f32>(bias + i))
    } else {
      for (let i: usize = 0; i < wide; i += 16)
        v128.store(y + i, f32x4.mul(f32x4.mul(f32x4.sub(v128.load(v + i), m), f), v128.load(scale + i)))
      for (let i = wide; i < bytes; i += 4) store<f32>(y + i, (load<f32>(v + i) - mean) * r * load<f32>(scale + i))
    }
    x += bytes
    y += bytes
  }
}

/** into = 0 for a row */
function clear(into: usize, bytes: usize): void {
  if (into) memory.fill(into, 0, bytes)
}

/**
 * dx = dsum + r·(g − [mean g] − n·mean(g·n)), g = dy·scale, n = (x − mean)·r; [mean g] only where `centred`.
 * dscale = Σ dy·n and dbias = Σ dy over the rows.
 */
export function slope(
  x: usize,
  scale: usize,
  stats: usize,
  dy: usize,
  dsum: usize,
  dx: usize,
  dscale: usize,
  dbias: usize,
  rows: i32,
  width: i32,
  centred: i32,
): void {
  const bytes = (<usize>width) << 2
  const wide = bytes & ~15
  clear(dscale, bytes)
  clear(dbias, bytes)
  for (let row = 0; row < rows; row++) {
    const mean = load<f32>(stats)
    const r = load<f32>(stats, 4)
    const m = f32x4.splat(mean)
    const f = f32x4.splat(r)
    if (dscale) {
      for (let i: usize = 0; i < wide; i += 16) {
        const n = f32x4.mul(f32x4.sub(v128.load(x + i), m), f)
        v128.store(dscale + i, madd(v128.load(dy + i), n, v128.load(dscale + i)))
      }
      for (let i = wide; i < bytes; i += 4)
        store<f32>(dscale + i, load<f32>(dscale + i) + load<f32>(dy + i) * (load<f32>(x + i) - mean) * r)
    }
    if (dbias) plus(dbias, dy, dbias, bytes)
    if (dx) {
      // Σ g and Σ g·(x − mean)
      let a = f32x4.splat(0)
      let b = f32x4.splat(0)
      let c = f32x4.splat(0)
      let d = f32x4.splat(0)
      let i: usize = 0
      for (const end = bytes & ~31; i < end; i += 32) {
        const g = f32x4.mul(v128.load(dy + i), v128.load(scale + i))
        const h = f32x4.mul(v128.load(dy + i, 16), v128.load(scale + i, 16))
        a = f32x4.add(g, a)
        b = f32x4.add(h, b)
        c = madd(g, f32x4.sub(v128.load(x + i), m), c)
        d = madd(h, f32x4.sub(v128.load(x + i, 16), m), d)
      }
      let plain: f32 = 0
      let along: f32 = 0
      for (; i < bytes; i += 4) {
        const g = load<f32>(dy + i) * load<f32>(scale + i)
        plain += g
        along += g * (load<f32>(x + i) - mean)
      }
      plain = centred ? (plain + total(f32x4.add(a, b))) / <f32>width : 0
      along = ((along + total(f32x4.add(c, d))) / <f32>width) * r * r // of n·r, so that x − mean follows
      const p = f32x4.splat(plain)
      const q = f32x4.splat(along)
      for (let i: usize = 0; i < wide; i += 16) {
        const g = f32x4.sub(f32x4.mul(v128.load(dy + i), v128.load(scale + i)), p)
        const e = f32x4.mul(f, f32x4.sub(g, f32x4.mul(f32x4.sub(v128.load(x + i), m), q)))
        v128.store(dx + i, dsum ? f32x4.add(e, v128.load(dsum + i)) : e)
      }
      for (let i = wide; i < bytes; i += 4) {
        const e = r * (load<f32>(dy + i) * load<f32>(scale + i) - plain - (load<f32>(x + i) - mean) * along)
        store<f32>(dx + i, dsum ? e + load<f32>(dsum + i) : e)
      }
      dx += bytes
      if (dsum) dsum += bytes
    }
    x += bytes
    dy += bytes
    stats += 8
  }
}
