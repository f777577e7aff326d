/**
 * Numbers of a Philox 4x32-10 stream, word by word as src/rng.ts draws them, and what is made of them, by the same steps
 * in float64: the same bits. `block` counts blocks of four words; n numbers from its first word on go to y.
 */

function unit(word: u32): f64 {
  return (<f64>word + 0.5) / 4294967296.0
}

function step(n: v128, r: v128, k: v128): v128 {
  return f64x2.add(f64x2.mul(n, r), k)
}

// what a function of two pairs gives beside its value
let other = f64x2.splat(0)

/** Wichura's AS 241, PPND16, within 0.425 of the middle: two pairs at a time, by the same steps */
function middle(q0: v128, q1: v128): v128 {
  const r0 = f64x2.sub(f64x2.splat(0.180625), f64x2.mul(q0, q0))
  const r1 = f64x2.sub(f64x2.splat(0.180625), f64x2.mul(q1, q1))
  let k = f64x2.splat(33430.575583588128105)
  let n0 = step(f64x2.splat(2509.0809287301226727), r0, k)
  let n1 = step(f64x2.splat(2509.0809287301226727), r1, k)
  k = f64x2.splat(67265.770927008700853)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(45921.953931549871457)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(13731.693765509461125)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(1971.5909503065514427)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(133.14166789178437745)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(3.387132872796366608)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(28729.085735721942674)
  let d0 = step(f64x2.splat(5226.495278852545925), r0, k)
  let d1 = step(f64x2.splat(5226.495278852545925), r1, k)
  k = f64x2.splat(39307.89580009271061)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(21213.794301586595867)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(5394.1960214247511077)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(687.1870074920579083)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(42.313330701600911252)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(1)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  other = f64x2.mul(q1, f64x2.div(n1, d1))
  return f64x2.mul(q0, f64x2.div(n0, d0))
}

/** what is left of p when its exponent is taken, in [√½, √2) */
function significand(p: v128): v128 {
  const low = v128.or(v128.and(p, i64x2.splat(0x000fffffffffffff)), i64x2.splat(0x3fe0000000000000)) // in [0.5, 1)
  return f64x2.add(low, v128.and(low, f64x2.lt(low, f64x2.splat(0.70710678118654752))))
}
/** ln p from that and from ½·ln of it, whose doublings src/rng.ts counts */
function logarithm(p: v128, x: v128, half: v128): v128 {
  let e = f64x2.splat(<f64>(<i32>(i64x2.extract_lane(p, 0) >> 52) - 1022))
  e = f64x2.replace_lane(e, 1, <f64>(<i32>(i64x2.extract_lane(p, 1) >> 52) - 1022))
  e = f64x2.sub(e, v128.and(f64x2.ge(x, f64x2.splat(1)), f64x2.splat(1)))
  return f64x2.add(half, f64x2.mul(e, f64x2.splat(0.6931471805599453)))
}
/** (x − 1)/(x + 1) */
function fraction(x: v128): v128 {
  return f64x2.div(f64x2.sub(x, f64x2.splat(1)), f64x2.add(x, f64x2.splat(1)))
}

/** The same further out, the distance from the middle for chances p below 0.075: √(−ln p) is below 5 for words of 32 bits. */
function tail(p0: v128, p1: v128): v128 {
  const x0 = significand(p0)
  const x1 = significand(p1)
  const f0 = fraction(x0)
  const f1 = fraction(x1)
  const t0 = f64x2.mul(f0, f0)
  const t1 = f64x2.mul(f1, f1)
  let k = f64x2.splat(1.0 / 23.0)
  let s0 = k
  let s1 = k
  k = f64x2.splat(1.0 / 21.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 19.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 17.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 15.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 13.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 11.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 9.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 7.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 5.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 3.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  k = f64x2.splat(1.0 / 1.0)
  s0 = step(s0, t0, k)
  s1 = step(s1, t1, k)
  const l0 = logarithm(p0, x0, f64x2.mul(f64x2.add(f0, f0), s0))
  const l1 = logarithm(p1, x1, f64x2.mul(f64x2.add(f1, f1), s1))
  const r0 = f64x2.sub(f64x2.sqrt(f64x2.neg(l0)), f64x2.splat(1.6))
  const r1 = f64x2.sub(f64x2.sqrt(f64x2.neg(l1)), f64x2.splat(1.6))
  k = f64x2.splat(0.0227238449892691845833)
  let n0 = step(f64x2.splat(7.7454501427834140764e-4), r0, k)
  let n1 = step(f64x2.splat(7.7454501427834140764e-4), r1, k)
  k = f64x2.splat(0.24178072517745061177)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(1.27045825245236838258)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(3.64784832476320460504)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(5.7694972214606914055)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(4.6303378461565452959)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(1.42343711074968357734)
  n0 = step(n0, r0, k)
  n1 = step(n1, r1, k)
  k = f64x2.splat(5.475938084995344946e-4)
  let d0 = step(f64x2.splat(1.05075007164441684324e-9), r0, k)
  let d1 = step(f64x2.splat(1.05075007164441684324e-9), r1, k)
  k = f64x2.splat(0.0151986665636164571966)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(0.14810397642748007459)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(0.68976733498510000455)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(1.6763848301838038494)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(2.05319162663775882187)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  k = f64x2.splat(1)
  d0 = step(d0, r0, k)
  d1 = step(d1, r1, k)
  other = f64x2.div(n1, d1)
  return f64x2.div(n0, d0)
}

// numbers far out wait until there are four: their logarithms are long, and they come in no order
let waiting = 0
let first = f64x2.splat(0.05)
let second = f64x2.splat(0.05)
let place0: usize = 0
let place1: usize = 0
let place2: usize = 0
let place3: usize = 0

function flush(a: f64): void {
  const x = tail(f64x2.abs(first), f64x2.abs(second))
  if (waiting > 0) far(place0, f64x2.extract_lane(x, 0), f64x2.extract_lane(first, 0), a)
  if (waiting > 1) far(place1, f64x2.extract_lane(x, 1), f64x2.extract_lane(first, 1), a)
  if (waiting > 2) far(place2, f64x2.extract_lane(other, 0), f64x2.extract_lane(second, 0), a)
  if (waiting > 3) far(place3, f64x2.extract_lane(other, 1), f64x2.extract_lane(second, 1), a)
  waiting = 0
}
function far(y: usize, x: f64, side: f64, a: f64): void {
  store<f32>(y, <f32>(a * (side < 0 ? x : -x)))
}

/** p: a chance, that of the other side with a minus */
function wait(p: f64, y: usize, a: f64): void {
  if (waiting === 0) {
    first = f64x2.replace_lane(first, 0, p)
    place0 = y
  } else if (waiting === 1) {
    first = f64x2.replace_lane(first, 1, p)
    place1 = y
  } else if (waiting === 2) {
    second = f64x2.replace_lane(second, 0, p)
    place2 = y
  } else {
    second = f64x2.replace_lane(second, 1, p)
    place3 = y
  }
  if (++waiting === 4) flush(a)
}

/** the first n of four normal numbers of deviation a */
function normals(c0: u32, c1: u32, c2: u32, c3: u32, a: f64, y: usize, n: i32): void {
  const half = f64x2.splat(0.5)
  const p0 = f64x2.replace_lane(f64x2.splat(unit(c0)), 1, unit(c1))
  const p1 = f64x2.replace_lane(f64x2.splat(unit(c2)), 1, unit(c3))
  const q0 = f64x2.sub(p0, half)
  const q1 = f64x2.sub(p1, half)
  const scale = f64x2.splat(a)
  const x0 = f64x2.mul(scale, middle(q0, q1))
  const x1 = f64x2.mul(scale, other)
  one(f64x2.extract_lane(p0, 0), f64x2.extract_lane(q0, 0), f64x2.extract_lane(x0, 0), a, y)
  if (n > 1) one(f64x2.extract_lane(p0, 1), f64x2.extract_lane(q0, 1), f64x2.extract_lane(x0, 1), a, y + 4)
  if (n > 2) one(f64x2.extract_lane(p1, 0), f64x2.extract_lane(q1, 0), f64x2.extract_lane(x1, 0), a, y + 8)
  if (n > 3) one(f64x2.extract_lane(p1, 1), f64x2.extract_lane(q1, 1), f64x2.extract_lane(x1, 1), a, y + 12)
}
function one(p: f64, q: f64, x: f64, a: f64, y: usize): void {
  if (Math.abs(q) <= 0.425) store<f32>(y, <f32>x)
  else wait(q < 0 ? p : p - 1, y, a)
}

function made(word: u32, uniform: bool, a: f64, b: f64): f32 {
  if (uniform) return <f32>(a + (b - a) * (<f64>(word >> 8) / 16777216.0))
  return unit(word) < a ? 1 : 0
}

/** kind 0: normal of deviation a; 1: uniform in [a, b); 2: 1 with chance a, else 0 */
export function draw(kind: i32, a: f64, b: f64, key0: u32, key1: u32, high: u32, low: f64, n: i32, y: usize): void {
  let block = <u64>low
  for (let i = 0; i < n; i += 4, block++, y += 16) {
    let c0 = <u32>block
    let c1 = <u32>(block >> 32)
    let c2 = high
    let c3: u32 = 0
    let k0 = key0
    let k1 = key1
    for (let round = 0; round < 10; round++) {
      const p0 = <u64>0xd2511f53 * <u64>c0
      const p1 = <u64>0xcd9e8d57 * <u64>c2
      c0 = <u32>(p1 >> 32) ^ c1 ^ k0
      c1 = <u32>p1
      c2 = <u32>(p0 >> 32) ^ c3 ^ k1
      c3 = <u32>p0
      k0 += 0x9e3779b9
      k1 += 0xbb67ae85
    }
    if (kind === 0) {
      normals(c0, c1, c2, c3, a, y, n - i)
      continue
    }
    const uniform = kind === 1
    store<f32>(y, made(c0, uniform, a, b))
    if (i + 1 < n) store<f32>(y, made(c1, uniform, a, b), 4)
    if (i + 2 < n) store<f32>(y, made(c2, uniform, a, b), 8)
    if (i + 3 < n) store<f32>(y, made(c3, uniform, a, b), 12)
  }
  if (waiting) flush(a)
}
