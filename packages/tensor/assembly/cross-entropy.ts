import { exp, exp1, madd, tanh, total } from './lib/math'

/** the largest of the four lanes */
function top4(x: v128): f32 {
  const a = max<f32>(f32x4.extract_lane(x, 0), f32x4.extract_lane(x, 1))
  return max<f32>(a, max<f32>(f32x4.extract_lane(x, 2), f32x4.extract_lane(x, 3)))
}

/** z ← cap·tanh(z/cap) */
function bend(z: usize, bytes: usize, cap: f32): void {
  const wide = bytes & ~15
  for (let i: usize = 0; i < wide; i += 16)
    v128.store(z + i, f32x4.mul(tanh(f32x4.mul(v128.load(z + i), f32x4.splat(1 / cap))), f32x4.splat(cap)))
  for (let i = wide; i < bytes; i += 4)
    store<f32>(z + i, f32x4.extract_lane(tanh(f32x4.splat(load<f32>(z + i) / cap)), 0) * cap)
}

/** the largest number */
function largest(z: usize, bytes: usize): f32 {
  const wide = bytes & ~63
  let top: f32 = -Infinity
  let a = f32x4.splat(top)
  let b = a
  let c = a
  let d = a
  for (let i: usize = 0; i < wide; i += 64) {
    a = f32x4.pmax(a, v128.load(z + i))
    b = f32x4.pmax(b, v128.load(z + i + 16))
    c = f32x4.pmax(c, v128.load(z + i + 32))
    d = f32x4.pmax(d, v128.load(z + i + 48))
  }
  top = top4(f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d)))
  for (let i = wide; i < bytes; i += 4) top = max<f32>(top, load<f32>(z + i))
  return top
}

/** Σ exp(z − top), in sixteen sums; with `keeps` the terms are written over z */
function sumExp(z: usize, bytes: usize, top: f32, keeps: bool): f32 {
  const wide = bytes & ~63
  const t = f32x4.splat(top)
  let a = f32x4.splat(0)
  let b = a
  let c = a
  let d = a
  for (let i: usize = 0; i < wide; i += 64) {
    const ea = exp(f32x4.sub(v128.load(z + i), t))
    const eb = exp(f32x4.sub(v128.load(z + i + 16), t))
    const ec = exp(f32x4.sub(v128.load(z + i + 32), t))
    const ed = exp(f32x4.sub(v128.load(z + i + 48), t))
    if (keeps) {
      v128.store(z + i, ea)
      v128.store(z + i + 16, eb)
      v128.store(z + i + 32, ec)
      v128.store(z + i + 48, ed)
    }
    a = f32x4.add(a, ea)
    b = f32x4.add(b, eb)
    c = f32x4.add(c, ec)
    d = f32x4.add(d, ed)
  }
  let sum = total(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)))
  for (let i = wide; i < bytes; i += 4) {
    const e = exp1(load<f32>(z + i) - top)
    if (keeps) store<f32>(z + i, e)
    sum += e
  }
  return sum
}

/** z ← s·z */
function scale(z: usize, bytes: usize, s: f32): void {
  const wide = bytes & ~15
  for (let i: usize = 0; i < wide; i += 16) v128.store(z + i, f32x4.mul(v128.load(z + i), f32x4.splat(s)))
  for (let i = wide; i < bytes; i += 4) store<f32>(z + i, load<f32>(z + i) * s)
}

/** the same through the cap: z ← s·exp(z − top)·(1 − (z/cap)²) */
function scaleBent(z: usize, bytes: usize, top: f32, s: f32, cap: f32): void {
  const wide = bytes & ~15
  for (let i: usize = 0; i < wide; i += 16) {
    const v = v128.load(z + i)
    const e = f32x4.mul(exp(f32x4.sub(v, f32x4.splat(top))), f32x4.splat(s))
    v128.store(z + i, f32x4.mul(e, madd(f32x4.mul(v, v), f32x4.splat(-1 / (cap * cap)), f32x4.splat(1))))
  }
  for (let i = wide; i < bytes; i += 4) {
    const v = load<f32>(z + i)
    store<f32>(z + i, exp1(v - top) * s * (1 - (v * v) / (cap * cap)))
  }
}

/**
 * Of each row of z [rows, width]: Σ exp(z − max) and max − z[target] to `stats` [rows, 2], and with `slopes` over the row
 * weight·(softmax z − onehot target). With a cap above 0, z stands for cap·tanh(z/cap). Rows of weight 0 are passed over.
 */
export function crossEntropy(
  z: usize,
  targets: usize,
  weights: usize,
  stats: usize,
  rows: i32,
  width: i32,
  cap: f32,
  slopes: bool,
): void {
  const bytes = (<usize>width) << 2
  for (let row = 0; row < rows; row++) {
    const weight = load<f32>(weights)
    if (weight === 0) {
      if (slopes) memory.fill(z, 0, bytes)
      store<f32>(stats, 1)
      store<f32>(stats + 4, 0)
    } else {
      if (cap > 0) bend(z, bytes, cap)
      const at = z + ((<usize>load<i32>(targets)) << 2)
      const hit = load<f32>(at)
      const top = largest(z, bytes)
      const sum = sumExp(z, bytes, top, slopes && cap === 0)
      store<f32>(stats, sum)
      store<f32>(stats + 4, top - hit)
      if (slopes) {
        if (cap > 0) {
          scaleBent(z, bytes, top, weight / sum, cap)
          store<f32>(at, load<f32>(at) - weight * (1 - (hit * hit) / (cap * cap)))
        } else {
          scale(z, bytes, weight / sum)
          store<f32>(at, load<f32>(at) - weight)
        }
      }
    }
    z += bytes
    targets += 4
    weights += 4
    stats += 8
  }
}
