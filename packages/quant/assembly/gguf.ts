import { bfloats, halves } from '../../tensor/assembly/lib/half'
import { half } from './lib/float16'

/** Blocks of ggml → float32 (n blocks from q on to y), to the last bit as src/gguf/blocks has it. */

/** 16 signed bytes times d */
function putSigned(q: v128, d: v128, y: usize): void {
  const a = i16x8.extend_low_i8x16_s(q)
  const b = i16x8.extend_high_i8x16_s(q)
  v128.store(y, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(a)), d))
  v128.store(y, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(a)), d), 16)
  v128.store(y, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(b)), d), 32)
  v128.store(y, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(b)), d), 48)
}

/** 16 bytes below 128 times d plus m */
function putMoved(q: v128, d: v128, m: v128, y: usize): void {
  const a = i16x8.extend_low_i8x16_s(q)
  const b = i16x8.extend_high_i8x16_s(q)
  v128.store(y, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(a)), d), m))
  v128.store(y, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(a)), d), m), 16)
  v128.store(y, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(b)), d), m), 32)
  v128.store(y, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(b)), d), m), 48)
}

function low(w: v128): v128 {
  return v128.and(w, i8x16.splat(15))
}
function high(w: v128): v128 {
  return i8x16.shr_u(w, 4)
}
/** 16 where bit i of the low 16 is set, else 0, in byte i */
function fifth(bits: u32): v128 {
  const w = i32x4.splat(bits)
  const spread = i8x16.shuffle(w, w, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
  const one = i8x16(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128)
  return v128.and(i8x16.eq(v128.and(spread, one), one), i8x16.splat(16))
}

export function fromF32(q: usize, n: i32, y: usize): void {
  memory.copy(y, q, (<usize>n) << 2)
}
export function fromF16(q: usize, n: i32, y: usize): void {
  halves(q, y, n)
}
export function fromBf16(q: usize, n: i32, y: usize): void {
  bfloats(q, y, n)
}

export function fromQ80(q: usize, n: i32, y: usize): void {
  for (; n > 0; n--, q += 34, y += 128) {
    const d = f32x4.splat(half(q))
    putSigned(v128.load(q, 2), d, y)
    putSigned(v128.load(q, 18), d, y + 64)
  }
}

export function fromQ40(q: usize, n: i32, y: usize): void {
  const middle = i8x16.splat(8)
  for (; n > 0; n--, q += 18, y += 128) {
    const d = f32x4.splat(half(q))
    const w = v128.load(q, 2)
    putSigned(i8x16.sub(low(w), middle), d, y)
    putSigned(i8x16.sub(high(w), middle), d, y + 64)
  }
}

export function fromQ41(q: usize, n: i32, y: usize): void {
  for (; n > 0; n--, q += 20, y += 128) {
    const d = f32x4.splat(half(q))
    const m = f32x4.splat(half(q + 2))
    const w = v128.load(q, 4)
    putMoved(low(w), d, m, y)
    putMoved(high(w), d, m, y + 64)
  }
}

export function fromQ50(q: usize, n: i32, y: usize): void {
  const middle = i8x16.splat(16)
  for (; n > 0; n--, q += 22, y += 128) {
    const d = f32x4.splat(half(q))
    const bits = load<u32>(q, 2)
    const w = v128.load(q, 6)
    putSigned(i8x16.sub(v128.or(low(w), fifth(bits)), middle), d, y)
    putSigned(i8x16.sub(v128.or(high(w), fifth(bits >> 16)), middle), d, y + 64)
  }
}

export function fromQ51(q: usize, n: i32, y: usize): void {
  for (; n > 0; n--, q += 24, y += 128) {
    const d = f32x4.splat(half(q))
    const m = f32x4.splat(half(q + 2))
    const bits = load<u32>(q, 4)
    const w = v128.load(q, 8)
    putMoved(v128.or(low(w), fifth(bits)), d, m, y)
    putMoved(v128.or(high(w), fifth(bits >> 16)), d, m, y + 64)
  }
}

function two(w: v128, j: i32): v128 {
  return v128.and(i8x16.shr_u(w, 2 * j), i8x16.splat(3))
}

export function fromQ2k(q: usize, n: i32, y: usize): void {
  for (; n > 0; n--, q += 84) {
    const d = half(q + 80)
    const least = half(q + 82)
    for (let i = 0; i < 16; i++, y += 64) {
      const s = load<u8>(q + i)
      const w = v128.load(q + 16 + 32 * (i >> 3) + 16 * (i & 1))
      putMoved(two(w, (i >> 1) & 3), f32x4.splat(d * <f32>(s & 15)), f32x4.splat(-(least * <f32>(s >> 4))), y)
    }
  }
}

export function fromQ3k(q: usize, n: i32, y: usize): void {
  for (; n > 0; n--, q += 110) {
    const d = half(q + 108)
    const h0 = v128.load(q)
    const h1 = v128.load(q, 16)
    for (let i = 0; i < 16; i++, y += 64) {
      const lows = <i32>load<u8>(q + 96 + (i & 7)) >> ((i >> 3) << 2)
      const highs = <i32>load<u8>(q + 104 + (i & 3)) >> (2 * (i >> 2))
      const s = ((lows & 15) | ((highs & 3) << 4)) - 32
      const w = two(v128.load(q + 32 + 32 * (i >> 3) + 16 * (i & 1)), (i >> 1) & 3)
      const more = v128.and(i8x16.shr_u(i & 1 ? h1 : h0, i >> 1), i8x16.splat(1))
      const code = i8x16.sub(i8x16.add(w, i8x16.shl(more, 2)), i8x16.splat(4))
      putSigned(code, f32x4.splat(d * <f32>s), y)
    }
  }
}

/** s and m of group b of Q4_K and Q5_K, in bits 0 and 8 */
function pair(at: usize, b: i32): i32 {
  if (b < 4) return <i32>(load<u8>(at + b) & 63) | ((<i32>(load<u8>(at + b + 4) & 63)) << 8)
  const z = <i32>load<u8>(at + b + 4)
  const s = (z & 15) | ((<i32>load<u8>(at + b - 4) >> 6) << 4)
  const m = (z >> 4) | ((<i32>load<u8>(at + b) >> 6) << 4)
  return s | (m << 8)
}

export function fromQ4k(q: usize, n: i32, y: usize): void {
  for (; n > 0; n--, q += 144) {
    const d = half(q)
    const least = half(q + 2)
    for (let p = 0; p < 4; p++, y += 256) {
      const w0 = v128.load(q + 16 + 32 * p)
      const w1 = v128.load(q + 32 + 32 * p)
      const even = pair(q + 4, 2 * p)
      const odd = pair(q + 4, 2 * p + 1)
      const d0 = f32x4.splat(d * <f32>(even & 255))
      const m0 = f32x4.splat(-(least * <f32>(even >> 8)))
      putMoved(low(w0), d0, m0, y)
      putMoved(low(w1), d0, m0, y + 64)
      const d1 = f32x4.splat(d * <f32>(odd & 255))
      const m1 = f32x4.splat(-(least * <f32>(odd >> 8)))
      putMoved(high(w0), d1, m1, y + 128)
      putMoved(high(w1), d1, m1, y + 192)
    }
  }
}

export function fromQ5k(q: usize, n: i32, y: usize): void {
  const one = i8x16.splat(1)
  for (; n > 0; n--, q += 176) {
    const d = half(q)
    const least = half(q + 2)
    const h0 = v128.load(q, 16)
    const h1 = v128.load(q, 32)
    for (let p = 0; p < 4; p++, y += 256) {
      const w0 = v128.load(q + 48 + 32 * p)
      const w1 = v128.load(q + 64 + 32 * p)
      const even = pair(q + 4, 2 * p)
      const odd = pair(q + 4, 2 * p + 1)
      const d0 = f32x4.splat(d * <f32>(even & 255))
      const m0 = f32x4.splat(-(least * <f32>(even >> 8)))
      const d1 = f32x4.splat(d * <f32>(odd & 255))
      const m1 = f32x4.splat(-(least * <f32>(odd >> 8)))
      const a0 = i8x16.shr_u(h0, 2 * p)
      const a1 = i8x16.shr_u(h1, 2 * p)
      putMoved(v128.or(low(w0), i8x16.shl(v128.and(a0, one), 4)), d0, m0, y)
      putMoved(v128.or(low(w1), i8x16.shl(v128.and(a1, one), 4)), d0, m0, y + 64)
      putMoved(v128.or(high(w0), i8x16.shl(v128.and(i8x16.shr_u(a0, 1), one), 4)), d1, m1, y + 128)
      putMoved(v128.or(high(w1), i8x16.shl(v128.and(i8x16.shr_u(a1, 1), one), 4)), d1, m1, y + 192)
    }
  }
}

export function fromQ6k(q: usize, n: i32, y: usize): void {
  const middle = i8x16.splat(32)
  for (; n > 0; n--, q += 210) {
    const d = half(q + 208)
    for (let i = 0; i < 16; i++, y += 64) {
      const part = (i & 7) >> 1
      const s = <f32>(<i32>load<i8>(q + 192 + i))
      const w = v128.load(q + 64 * (i >> 3) + 32 * (part & 1) + 16 * (i & 1))
      const h = two(v128.load(q + 128 + 32 * (i >> 3) + 16 * (i & 1)), part)
      const code = v128.or(part & 2 ? high(w) : low(w), i8x16.shl(h, 4))
      putSigned(i8x16.sub(code, middle), f32x4.splat(d * s), y)
    }
  }
}

function levels(): v128 {
  return i8x16(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
}

export function fromIq4nl(q: usize, n: i32, y: usize): void {
  const table = levels()
  for (; n > 0; n--, q += 18, y += 128) {
    const d = f32x4.splat(half(q))
    const w = v128.load(q, 2)
    putSigned(i8x16.swizzle(table, low(w)), d, y)
    putSigned(i8x16.swizzle(table, high(w)), d, y + 64)
  }
}

export function fromIq4xs(q: usize, n: i32, y: usize): void {
  const table = levels()
  for (; n > 0; n--, q += 136) {
    const d = half(q)
    const highs = <i32>load<u16>(q, 2)
    for (let b = 0; b < 8; b++, y += 128) {
      const lows = <i32>load<u8>(q + 4 + (b >> 1)) >> ((b & 1) << 2)
      const s = ((lows & 15) | (((highs >> (2 * b)) & 3) << 4)) - 32
      const ds = f32x4.splat(d * <f32>s)
      const w = v128.load(q + 8 + 16 * b)
      putSigned(i8x16.swizzle(table, low(w)), ds, y)
      putSigned(i8x16.swizzle(table, high(w)), ds, y + 64)
    }
  }
}

export function fromTq20(q: usize, n: i32, y: usize): void {
  const one = i8x16.splat(1)
  for (; n > 0; n--, q += 66) {
    const d = f32x4.splat(half(q + 64))
    for (let i = 0; i < 16; i++, y += 64) {
      const w = v128.load(q + 32 * (i >> 3) + 16 * (i & 1))
      putSigned(i8x16.sub(two(w, (i >> 1) & 3), one), d, y)
    }
  }
}

export function fromMxfp4(q: usize, n: i32, y: usize): void {
  const table = i8x16(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
  for (; n > 0; n--, q += 17, y += 128) {
    const e = <u32>load<u8>(q)
    const d = f32x4.splat(reinterpret<f32>(e < 2 ? 0x200000 << e : (e - 1) << 23))
    const w = v128.load(q, 1)
    putSigned(i8x16.swizzle(table, low(w)), d, y)
    putSigned(i8x16.swizzle(table, high(w)), d, y + 64)
  }
}
