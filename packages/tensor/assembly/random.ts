/**
 * Numbers of a Philox 4x32-10 stream as src/rng.ts draws them, by the same steps: the same bits.
 */

/** words stay in the nearest cache until numbers are made of them */
const PIECE = 2048

/** low words of the products of four numbers and m, and the high ones */
function low(x: v128, m: v128): v128 {
  return i32x4.shuffle(i64x2.extmul_low_i32x4_u(x, m), i64x2.extmul_high_i32x4_u(x, m), 0, 2, 4, 6)
}
function high(x: v128, m: v128): v128 {
  return i32x4.shuffle(i64x2.extmul_low_i32x4_u(x, m), i64x2.extmul_high_i32x4_u(x, m), 1, 3, 5, 7)
}

/** four blocks, whose words lie beside each other */
function put(c0: v128, c1: v128, c2: v128, c3: v128, y: usize): void {
  const a = i32x4.shuffle(c0, c1, 0, 4, 1, 5)
  const b = i32x4.shuffle(c2, c3, 0, 4, 1, 5)
  const c = i32x4.shuffle(c0, c1, 2, 6, 3, 7)
  const d = i32x4.shuffle(c2, c3, 2, 6, 3, 7)
  v128.store(y, i64x2.shuffle(a, b, 0, 2))
  v128.store(y, i64x2.shuffle(a, b, 1, 3), 16)
  v128.store(y, i64x2.shuffle(c, d, 0, 2), 32)
  v128.store(y, i64x2.shuffle(c, d, 1, 3), 48)
}

/** n words from the first of `block` on, of twice four blocks at a time, since each round waits for the one before */
function words(block: u64, key0: u32, key1: u32, top: u32, n: i32, y: usize): void {
  const m0 = i32x4.splat(0xd2511f53)
  const m1 = i32x4.splat(0xcd9e8d57)
  for (const end = y + ((<usize>n) << 2); y < end; y += 128, block += 8) {
    const first = i32x4.splat(<u32>block)
    const above = i32x4.splat(<u32>(block >> 32))
    let a0 = i32x4.add(first, i32x4(0, 1, 2, 3))
    let b0 = i32x4.add(first, i32x4(4, 5, 6, 7))
    // one more, which is less −1, where the low word began again
    let a1 = i32x4.sub(above, i32x4.lt_u(a0, first))
    let b1 = i32x4.sub(above, i32x4.lt_u(b0, first))
    let a2 = i32x4.splat(top)
    let b2 = a2
    let a3 = i32x4.splat(0)
    let b3 = a3
    let k0 = key0
    let k1 = key1
    for (let round = 0; round < 10; round++) {
      const a = v128.xor(v128.xor(high(a2, m1), a1), i32x4.splat(k0))
      const b = v128.xor(v128.xor(high(b2, m1), b1), i32x4.splat(k0))
      a1 = low(a2, m1)
      b1 = low(b2, m1)
      a2 = v128.xor(v128.xor(high(a0, m0), a3), i32x4.splat(k1))
      b2 = v128.xor(v128.xor(high(b0, m0), b3), i32x4.splat(k1))
      a3 = low(a0, m0)
      b3 = low(b0, m0)
      a0 = a
      b0 = b
      k0 += 0x9e3779b9
      k1 += 0xbb67ae85
    }
    put(a0, a1, a2, a3, y)
    put(b0, b1, b2, b3, y + 64)
  }
}

function step(s: v128, x: v128, k: v128): v128 {
  return f32x4.add(f32x4.mul(s, x), k)
}
/** a + b·x + c·q + d·x·q, q = x²: the sums do not wait for each other */
function cubic(x: v128, q: v128, a: f32, b: f32, c: f32, d: f32): v128 {
  const high = step(f32x4.splat(d), x, f32x4.splat(c))
  return step(high, q, step(f32x4.splat(b), x, f32x4.splat(a)))
}

/** (u + ½)/2³² */
function chance(u: v128): v128 {
  return f32x4.mul(f32x4.add(f32x4.convert_i32x4_s(u), f32x4.splat(0.5)), f32x4.splat(2.3283064365386963e-10))
}
/** log₂ x: e of x = 2ᵉ·m, m in [√½, √2), and a polynomial of m − 1 */
function logarithm(x: v128): v128 {
  const e = i32x4.shr_s(i32x4.sub(x, i32x4.splat(0x3f3504f3)), 23)
  const f = f32x4.sub(i32x4.sub(x, i32x4.shl(e, 23)), f32x4.splat(1))
  const q = f32x4.mul(f, f)
  const low = cubic(f, q, 1.4426949, -0.7213528, 0.48092324, -0.36023962)
  const s = step(cubic(f, q, 0.2870987, -0.24887687, 0.23404236, -0.14581166), f32x4.mul(q, q), low)
  return f32x4.add(f32x4.convert_i32x4_s(e), f32x4.mul(s, f))
}
/** a normal number over z, by t = log₂ 4·p·(1 − p) */
function near(t: v128): v128 {
  const x = f32x4.add(t, f32x4.splat(4))
  const q = f32x4.mul(x, x)
  const h = f32x4.mul(q, q)
  const most = step(f32x4.splat(7.568251e-10), x, f32x4.splat(9.279781e-10))
  const more = step(most, h, cubic(x, q, 1.3594779e-4, 4.445142e-6, -8.119583e-7, -1.0364212e-7))
  return step(more, h, cubic(x, q, 4.4358397, -0.4785643, -6.9386e-3, 9.605224e-4))
}
/** the same for t below −8, in √−t */
function far(t: v128): v128 {
  const x = f32x4.sub(f32x4.sqrt(f32x4.abs(t)), f32x4.splat(4))
  const q = f32x4.mul(x, x)
  const low = cubic(x, q, 8.950724, 2.3690636, 8.928809e-3, -4.9060797e-3)
  return step(cubic(x, q, 2.5874977e-3, -1.589537e-3, 7.3863706e-4, -1.516058e-4), f32x4.mul(q, q), low)
}

/** each of n words to a normal number of deviation a: `normalOf` of src/normal.ts */
function normals(a: f32, n: i32, y: usize): void {
  for (const end = y + ((<usize>n) << 2); y < end; y += 16) {
    const w = v128.load(y)
    const u = v128.xor(w, i32x4.shr_s(w, 31))
    const p = chance(u)
    const z = chance(i32x4.sub(i32x4.splat(0x7fffffff), u))
    const t = logarithm(f32x4.mul(f32x4.mul(f32x4.splat(4), p), f32x4.add(f32x4.splat(0.5), z)))
    let x = near(t)
    const out = f32x4.lt(t, f32x4.splat(-8))
    if (v128.any_true(out)) x = v128.bitselect(far(t), x, out)
    const sign = v128.andnot(i32x4.splat(<i32>0x80000000), w)
    v128.store(y, f32x4.mul(f32x4.splat(a), v128.xor(f32x4.mul(x, z), sign)))
  }
}

/** each of n words to a number in [a, b) */
function uniforms(a: f64, b: f64, n: i32, y: usize): void {
  const from = f64x2.splat(a)
  const width = f64x2.splat(b - a)
  const unit = f64x2.splat(5.9604644775390625e-8)
  for (const end = y + ((<usize>n) << 2); y < end; y += 16) {
    const u = i32x4.shr_u(v128.load(y), 8)
    const p = f64x2.mul(f64x2.convert_low_i32x4_s(u), unit)
    const q = f64x2.mul(f64x2.convert_low_i32x4_s(i32x4.shuffle(u, u, 2, 3, 2, 3)), unit)
    const l = f32x4.demote_f64x2_zero(f64x2.add(from, f64x2.mul(width, p)))
    const h = f32x4.demote_f64x2_zero(f64x2.add(from, f64x2.mul(width, q)))
    v128.store(y, i64x2.shuffle(l, h, 0, 2))
  }
}

/** each of n words to 1 where (word + ½)/2³² < a, to 0 elsewhere */
function ones(a: f64, n: i32, y: usize): void {
  const below = Math.ceil(a * 4294967296.0 - 0.5)
  const all = below > 4294967295.0
  const limit = i32x4.splat(below > 0 && !all ? <u32>below : 0)
  for (const end = y + ((<usize>n) << 2); y < end; y += 16) {
    const is = all ? i32x4.splat(-1) : i32x4.lt_u(v128.load(y), limit)
    v128.store(y, v128.and(is, f32x4.splat(1)))
  }
}

/** kind 0: normal of deviation a; 1: uniform in [a, b); 2: 1 with chance a, else 0; 3: words themselves. n: a multiple of 32 */
export function draw(kind: i32, a: f64, b: f64, key0: u32, key1: u32, top: u32, first: f64, n: i32, y: usize): void {
  let block = <u64>first
  for (let i = 0; i < n; i += PIECE) {
    const count = min(PIECE, n - i)
    words(block, key0, key1, top, count, y)
    if (kind === 0) normals(<f32>a, count, y)
    else if (kind === 1) uniforms(a, b, count, y)
    else if (kind === 2) ones(a, count, y)
    block += PIECE / 4
    y += 4 * PIECE
  }
}
