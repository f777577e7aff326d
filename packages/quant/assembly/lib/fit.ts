/**
 * src/gguf/fit.ts for four groups of numbers at a time, one in each lane, so that the sums of each go from its first number
 * to its last. `s` is scratch: number i of the groups at X + 16i, its weights at W, its codes as floats at L.
 */

export const X: usize = 0
export const W: usize = 512
export const L: usize = 1024
const T: usize = 1536
const TINY: f32 = 1e-15
const TENTH: f32 = 0.1

/** to the nearest whole number, halves to even, within bounds; NaN gives the lower */
export function within(least: v128, most: v128, v: v128): v128 {
  return f32x4.nearest(f32x4.pmin(f32x4.pmax(least, v), most))
}
/** the same for one number */
export function withinOne(least: f32, most: f32, v: f32): f32 {
  return v > least ? nearest<f32>(v < most ? v : most) : least
}

/** n numbers from each of four addresses to `to`, a number of each beside those of the others; 4 divides n */
export function spread(a: usize, b: usize, c: usize, d: usize, n: i32, to: usize): void {
  for (; n > 0; n -= 4, a += 16, b += 16, c += 16, d += 16, to += 64) {
    const p = v128.load(a)
    const q = v128.load(b)
    const r = v128.load(c)
    const t = v128.load(d)
    const pq = i32x4.shuffle(p, q, 0, 4, 1, 5)
    const rt = i32x4.shuffle(r, t, 0, 4, 1, 5)
    const qp = i32x4.shuffle(p, q, 2, 6, 3, 7)
    const tr = i32x4.shuffle(r, t, 2, 6, 3, 7)
    v128.store(to, i64x2.shuffle(pq, rt, 0, 2))
    v128.store(to, i64x2.shuffle(pq, rt, 1, 3), 16)
    v128.store(to, i64x2.shuffle(qp, tr, 0, 2), 32)
    v128.store(to, i64x2.shuffle(qp, tr, 1, 3), 48)
  }
}

/** n codes from L as bytes, those of group j from `to` + stride·j on */
export function gather(s: usize, n: i32, to: usize, stride: usize): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    const c = i32x4.trunc_sat_f32x4_s(v128.load(s + L + (i << 4)))
    v128.store8_lane(to + i, c, 0)
    v128.store8_lane(to + i + stride, c, 4)
    v128.store8_lane(to + i + 2 * stride, c, 8)
    v128.store8_lane(to + i + 3 * stride, c, 12)
  }
}

/** Σ of the weights */
export function total(s: usize, n: i32): v128 {
  let sum = f32x4.splat(0)
  for (let i: usize = 0; i < <usize>n; i++) sum = f32x4.add(sum, v128.load(s + W + (i << 4)))
  return sum
}

/** weights importance·√(power + x²); the importance of each column is in W before */
export function weigh(s: usize, n: i32, power: v128): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    const at = s + (i << 4)
    const x = v128.load(at, X)
    v128.store(at, f32x4.mul(v128.load(at, W), f32x4.sqrt(f32x4.add(power, f32x4.mul(x, x)))), W)
  }
}

/** weights x² */
export function squareAll(s: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    const x = v128.load(s + X + (i << 4))
    v128.store(s + W + (i << 4), f32x4.mul(x, x))
  }
}

/** the entries of the largest magnitude, the first of those; 0 where none reaches 10⁻¹⁵ */
export function peaks(s: usize, n: i32): v128 {
  let size = f32x4.splat(0)
  let peak = size
  for (let i: usize = 0; i < <usize>n; i++) {
    const x = v128.load(s + X + (i << 4))
    const a = f32x4.abs(x)
    const more = f32x4.gt(a, size)
    size = v128.bitselect(a, size, more)
    peak = v128.bitselect(x, peak, more)
  }
  return v128.and(peak, f32x4.ge(size, f32x4.splat(TINY)))
}

/** d of x ≈ d·(code − most): `fitScale` */
export function fitScale(s: usize, n: i32, most: f32): v128 {
  const zero = f32x4.splat(0)
  const peak = peaks(s, n)
  const live = f32x4.ne(peak, zero)
  const low = f32x4.splat(-most)
  const high = f32x4.splat(most - 1)
  let scale = zero
  let best = zero
  let chosen = zero
  for (let k = 0; k < 19; k++) {
    const step = k === 0 ? 0 : k < 10 ? k - 10 : k - 9
    const inverse = f32x4.div(f32x4.splat(-(most + TENTH * <f32>step)), peak)
    let xl = zero
    let ll = zero
    for (let i: usize = 0; i < <usize>n; i++) {
      const x = v128.load(s + X + (i << 4))
      const w = v128.load(s + W + (i << 4))
      const l = within(low, high, f32x4.mul(inverse, x))
      xl = f32x4.add(xl, f32x4.mul(f32x4.mul(w, x), l))
      ll = f32x4.add(ll, f32x4.mul(f32x4.mul(w, l), l))
    }
    let better = f32x4.gt(f32x4.mul(xl, xl), f32x4.mul(best, ll))
    better = k === 0 ? f32x4.eq(zero, zero) : v128.and(better, f32x4.gt(ll, zero))
    const now = v128.and(f32x4.div(xl, ll), f32x4.ne(ll, zero))
    scale = v128.bitselect(now, scale, better)
    best = v128.bitselect(f32x4.mul(now, xl), best, better)
    chosen = v128.bitselect(inverse, chosen, better)
  }
  const middle = f32x4.splat(most)
  for (let i: usize = 0; i < <usize>n; i++) {
    const l = within(low, high, f32x4.mul(chosen, v128.load(s + X + (i << 4))))
    v128.store(s + L + (i << 4), v128.and(f32x4.add(l, middle), live))
  }
  return v128.and(scale, live)
}

/** d of x ≈ d·(code − 4), weights x²: `fitByMoves` */
export function fitByMoves(s: usize, n: i32): v128 {
  const zero = f32x4.splat(0)
  const peak = peaks(s, n)
  const live = f32x4.ne(peak, zero)
  const low = f32x4.splat(-4)
  const high = f32x4.splat(3)
  const inverse = f32x4.div(low, peak)
  let xl = zero
  let ll = zero
  for (let i: usize = 0; i < <usize>n; i++) {
    const x = v128.load(s + X + (i << 4))
    const w = f32x4.mul(x, x)
    const l = within(low, high, f32x4.mul(inverse, x))
    v128.store(s + L + (i << 4), l)
    xl = f32x4.add(xl, f32x4.mul(f32x4.mul(w, x), l))
    ll = f32x4.add(ll, f32x4.mul(f32x4.mul(w, l), l))
  }
  for (let sweep = 0; sweep < 5; sweep++) {
    let moved = zero
    for (let i: usize = 0; i < <usize>n; i++) {
      const x = v128.load(s + X + (i << 4))
      const l = v128.load(s + L + (i << 4))
      const w = f32x4.mul(x, x)
      const wx = f32x4.mul(w, x)
      const a = f32x4.sub(xl, f32x4.mul(wx, l))
      const b = f32x4.sub(ll, f32x4.mul(f32x4.mul(w, l), l))
      const other = within(low, high, f32x4.div(f32x4.mul(x, b), a))
      const c = f32x4.add(a, f32x4.mul(wx, other))
      const d = f32x4.add(b, f32x4.mul(f32x4.mul(w, other), other))
      const gains = f32x4.gt(f32x4.mul(f32x4.mul(c, c), ll), f32x4.mul(f32x4.mul(xl, xl), d))
      const can = v128.and(v128.and(f32x4.gt(a, zero), f32x4.ne(other, l)), f32x4.gt(d, zero))
      const take = v128.and(can, gains)
      v128.store(s + L + (i << 4), v128.bitselect(other, l, take))
      xl = v128.bitselect(c, xl, take)
      ll = v128.bitselect(d, ll, take)
      moved = v128.or(moved, take)
    }
    if (!v128.any_true(moved)) break
  }
  for (let i: usize = 0; i < <usize>n; i++) {
    const at = s + L + (i << 4)
    v128.store(at, v128.and(f32x4.sub(v128.load(at), low), live))
  }
  return v128.and(v128.and(f32x4.div(xl, ll), f32x4.gt(ll, zero)), live)
}

/** d and m ≥ 0 of x ≈ d·code − m: `fitMin`; m goes to `mins` */
export function fitMin(
  s: usize,
  n: i32,
  most: f32,
  start: f32,
  delta: f32,
  steps: i32,
  absolute: bool,
  mins: usize,
): v128 {
  const zero = f32x4.splat(0)
  const top = f32x4.splat(most)
  let min = v128.load(s + X)
  let max = min
  let w1 = zero
  let wx = zero
  for (let i: usize = 0; i < <usize>n; i++) {
    const x = v128.load(s + X + (i << 4))
    const w = v128.load(s + W + (i << 4))
    min = f32x4.pmin(min, x)
    max = f32x4.pmax(max, x)
    w1 = f32x4.add(w1, w)
    wx = f32x4.add(wx, f32x4.mul(w, x))
  }
  min = v128.bitselect(zero, min, f32x4.gt(min, zero))
  const live = f32x4.ne(max, min)
  let inverse = f32x4.div(top, f32x4.sub(max, min))
  let scale = f32x4.div(f32x4.splat(1), inverse)
  let best = zero
  for (let i: usize = 0; i < <usize>n; i++) {
    const x = v128.load(s + X + (i << 4))
    const l = within(zero, top, f32x4.mul(inverse, f32x4.sub(x, min)))
    const gap = f32x4.sub(f32x4.add(f32x4.mul(scale, l), min), x)
    const size = absolute ? f32x4.abs(gap) : f32x4.mul(gap, gap)
    best = f32x4.add(best, f32x4.mul(v128.load(s + W + (i << 4)), size))
  }
  let chosen = inverse
  let from = min
  for (let k = 0; k <= steps; k++) {
    inverse = f32x4.div(f32x4.splat(start + delta * <f32>k + most), f32x4.sub(max, min))
    let l1 = zero
    let ll = zero
    let xl = zero
    for (let i: usize = 0; i < <usize>n; i++) {
      const x = v128.load(s + X + (i << 4))
      const l = within(zero, top, f32x4.mul(inverse, f32x4.sub(x, min)))
      v128.store(s + T + (i << 4), l)
      const wl = f32x4.mul(v128.load(s + W + (i << 4)), l)
      l1 = f32x4.add(l1, wl)
      ll = f32x4.add(ll, f32x4.mul(wl, l))
      xl = f32x4.add(xl, f32x4.mul(wl, x))
    }
    const determinant = f32x4.sub(f32x4.mul(w1, ll), f32x4.mul(l1, l1))
    let d = f32x4.div(f32x4.sub(f32x4.mul(w1, xl), f32x4.mul(wx, l1)), determinant)
    let m = f32x4.div(f32x4.sub(f32x4.mul(ll, wx), f32x4.mul(l1, xl)), determinant)
    const above = f32x4.gt(m, zero)
    m = v128.andnot(m, above)
    d = v128.bitselect(f32x4.div(xl, ll), d, above)
    let now = zero
    for (let i: usize = 0; i < <usize>n; i++) {
      const gap = f32x4.sub(f32x4.add(f32x4.mul(d, v128.load(s + T + (i << 4))), m), v128.load(s + X + (i << 4)))
      const size = absolute ? f32x4.abs(gap) : f32x4.mul(gap, gap)
      now = f32x4.add(now, f32x4.mul(v128.load(s + W + (i << 4)), size))
    }
    const better = v128.and(f32x4.lt(now, best), f32x4.gt(determinant, zero))
    chosen = v128.bitselect(inverse, chosen, better)
    from = v128.bitselect(min, from, better)
    best = v128.bitselect(now, best, better)
    scale = v128.bitselect(d, scale, better)
    // what is tried next begins at the better minimum; where all numbers are one, nothing is tried
    min = v128.bitselect(m, min, v128.and(better, live))
  }
  for (let i: usize = 0; i < <usize>n; i++) {
    const l = within(zero, top, f32x4.mul(chosen, f32x4.sub(v128.load(s + X + (i << 4)), from)))
    v128.store(s + L + (i << 4), v128.and(l, live))
  }
  v128.store(mins, f32x4.neg(min))
  return v128.and(scale, live)
}

/** d of n positive numbers x ≈ d·code, codes as bytes: `fitPositive` */
export function fitPositive(x: usize, n: i32, most: f32, codes: usize, weights: usize): f32 {
  let max: f32 = 0
  for (let i = 0; i < n; i++) {
    const v = load<f32>(x + ((<usize>i) << 2))
    if (v > max) max = v
  }
  if (max < TINY) {
    memory.fill(codes, 0, n)
    return 0
  }
  let chosen: f32 = most / max
  let least = positiveError(x, n, most, chosen, weights)
  for (let step = -4; step <= 4; step++) {
    if (step === 0) continue
    const inverse = (TENTH * <f32>step + most) / max
    const now = positiveError(x, n, most, inverse, weights)
    if (now < least) {
      least = now
      chosen = inverse
    }
  }
  let xl: f32 = 0
  let ll: f32 = 0
  for (let i = 0; i < n; i++) {
    const v = load<f32>(x + ((<usize>i) << 2))
    const w = load<f32>(weights + ((<usize>i) << 2))
    const l = withinOne(0, most, chosen * v)
    store<u8>(codes + i, <u8>l)
    xl += w * v * l
    ll += w * l * l
  }
  for (let sweep = 0; sweep < 5; sweep++) {
    let moved = false
    for (let i = 0; i < n; i++) {
      const v = load<f32>(x + ((<usize>i) << 2))
      const w = load<f32>(weights + ((<usize>i) << 2))
      const l = <f32>load<u8>(codes + i)
      let a: f32 = xl - w * v * l
      let b: f32 = ll - w * l * l
      if (!(a > 0 && b > 0)) continue
      const other = withinOne(0, most, (v * b) / a)
      if (other === l) continue
      a += w * v * other
      b += w * other * other
      if (a * a * ll > xl * xl * b) {
        store<u8>(codes + i, <u8>other)
        xl = a
        ll = b
        moved = true
      }
    }
    if (!moved) break
  }
  return ll > 0 ? xl / ll : 0
}

function positiveError(x: usize, n: i32, most: f32, inverse: f32, weights: usize): f32 {
  const scale: f32 = 1 / inverse
  let sum: f32 = 0
  for (let i = 0; i < n; i++) {
    const v = load<f32>(x + ((<usize>i) << 2))
    const gap = v - scale * withinOne(0, most, inverse * v)
    sum += load<f32>(weights + ((<usize>i) << 2)) * gap * gap
  }
  return sum
}

/** codes of IQ4_NL's levels for eight numbers: how many of the middles between levels twice the number reaches */
function pick(a: v128, b: v128): v128 {
  const low = i32x4.trunc_sat_f32x4_s(f32x4.floor(f32x4.add(a, a)))
  const high = i32x4.trunc_sat_f32x4_s(f32x4.floor(f32x4.add(b, b)))
  const v = i16x8.narrow_i32x4_s(low, high)
  let n = i16x8.ge_s(v, i16x8.splat(-231))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(-187)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(-148)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(-114)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(-84)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(-57)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(-32)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(-9)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(14)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(38)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(63)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(91)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(122)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(158)))
  n = i16x8.add(n, i16x8.ge_s(v, i16x8.splat(202)))
  return i16x8.neg(n)
}

/** codes of inverse·x for 32 numbers of each lane, to L */
export function levelsOf(s: usize, inverse: v128): void {
  for (let i: usize = 0; i < 512; i += 32) {
    const x = s + X + i
    const codes = pick(f32x4.mul(inverse, v128.load(x)), f32x4.mul(inverse, v128.load(x, 16)))
    v128.store(s + L + i, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(codes)))
    v128.store(s + L + i, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(codes)), 16)
  }
}

/** d of x ≈ d·level for 32 numbers: `fitLevels` */
export function fitLevels(s: usize): v128 {
  const table = i8x16(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
  const zero = f32x4.splat(0)
  const peak = peaks(s, 32)
  const live = f32x4.ne(peak, zero)
  let scale = zero
  let best = zero
  for (let t = -8; t <= 7; t++) {
    const inverse =
      t < -7
        ? f32x4.div(f32x4.splat(1), f32x4.div(f32x4.neg(peak), f32x4.splat(-127)))
        : f32x4.div(f32x4.splat(<f32>(t - 127)), peak)
    let ql = zero
    let qq = zero
    for (let i: usize = 0; i < 512; i += 32) {
      const a = v128.load(s + X + i)
      const b = v128.load(s + X + i, 16)
      const codes = pick(f32x4.mul(inverse, a), f32x4.mul(inverse, b))
      const level = i16x8.extend_low_i8x16_s(i8x16.swizzle(table, i8x16.narrow_i16x8_u(codes, codes)))
      const p = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(level))
      const q = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(level))
      const wp = f32x4.mul(v128.load(s + W + i), p)
      const wq = f32x4.mul(v128.load(s + W + i, 16), q)
      ql = f32x4.add(f32x4.add(ql, f32x4.mul(wp, a)), f32x4.mul(wq, b))
      qq = f32x4.add(f32x4.add(qq, f32x4.mul(wp, p)), f32x4.mul(wq, q))
    }
    const positive = f32x4.gt(qq, zero)
    const gains = v128.and(positive, f32x4.gt(f32x4.mul(ql, ql), f32x4.mul(best, qq)))
    const better = t < -7 ? f32x4.eq(zero, zero) : gains
    const now = v128.and(f32x4.div(ql, qq), positive)
    scale = v128.bitselect(now, scale, better)
    best = v128.bitselect(f32x4.mul(now, ql), best, better)
  }
  return v128.and(scale, live)
}
