import { floatOf, half } from './lib/float16'

/**
 * Blocks of ggml that are points of grids → float32 (n blocks from q on to y), to the last bit as src/gguf/grids.ts has it.
 * `grid` is the address of all points, a byte a number.
 */

/** eight numbers of 16 bits, negative where the bit in `signs` is set, times d */
function put(v: v128, signs: u32, d: v128, y: usize): void {
  const one = i16x8(1, 2, 4, 8, 16, 32, 64, 128)
  const m = i16x8.eq(v128.and(i16x8.splat(<i16>signs), one), one)
  const s = i16x8.sub(v128.xor(v, m), m)
  v128.store(y, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(s)), d))
  v128.store(y, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(s)), d), 16)
}
/** a point of eight numbers */
function eight(grid: usize, k: u32): v128 {
  return v128.load_ext<i8>(grid + ((<usize>k) << 3))
}
/** two points of four numbers */
function fours(grid: usize, a: u32, b: u32): v128 {
  const low = v128.load_zero<u32>(grid + ((<usize>a) << 2))
  return i16x8.extend_low_i8x16_s(v128.load_lane<u32>(grid + ((<usize>b) << 2), low, 1))
}
function even(seven: u32): u32 {
  return seven | ((popcnt(seven) & 1) << 7)
}
function nibble(at: usize, i: usize): u32 {
  return (<u32>load<u8>(at + (i >> 1)) >> ((<u32>(i & 1)) << 2)) & 15
}
/** d·(s + ½) times a power of 2 */
function moved(d: f32, s: u32, by: f32): v128 {
  return f32x4.splat(d * (<f32>s + <f32>0.5) * by)
}

export function fromIq2xxs(q: usize, n: i32, y: usize, grid: usize): void {
  for (; n > 0; n--, q += 66) {
    const d = half(q)
    for (let b: usize = 0; b < 64; b += 8) {
      const signs = load<u32>(q + b, 6)
      const scale = moved(d, signs >> 28, 0.25)
      for (let j: u32 = 0; j < 4; j++, y += 32)
        put(eight(grid, load<u8>(q + b + j, 2)), even((signs >> (7 * j)) & 127), scale, y)
    }
  }
}

export function fromIq2xs(q: usize, n: i32, y: usize, grid: usize): void {
  for (; n > 0; n--, q += 74) {
    const d = half(q)
    for (let i: usize = 0; i < 32; i++, y += 32) {
      const w = <u32>load<u16>(q + (i << 1), 2)
      put(eight(grid, w & 511), even(w >> 9), moved(d, nibble(q + 66, i >> 1), 0.25), y)
    }
  }
}

export function fromIq2s(q: usize, n: i32, y: usize, grid: usize): void {
  for (; n > 0; n--, q += 82) {
    const d = half(q)
    for (let i: usize = 0; i < 32; i++, y += 32) {
      const high = (<u32>load<u8>(q + (i >> 2), 66) >> ((<u32>(i & 3)) << 1)) & 3
      const k = <u32>load<u8>(q + i, 2) | (high << 8)
      put(eight(grid, k), load<u8>(q + i, 34), moved(d, nibble(q + 74, i >> 1), 0.25), y)
    }
  }
}

export function fromIq3xxs(q: usize, n: i32, y: usize, grid: usize): void {
  for (; n > 0; n--, q += 98) {
    const d = half(q)
    for (let i: usize = 0; i < 32; i++, y += 32) {
      const signs = load<u32>(q + (i & 28), 66)
      const at = q + (i << 1)
      const v = fours(grid, load<u8>(at, 2), load<u8>(at, 3))
      put(v, even((signs >> (7 * <u32>(i & 3))) & 127), moved(d, signs >> 28, 0.5), y)
    }
  }
}

export function fromIq3s(q: usize, n: i32, y: usize, grid: usize): void {
  for (; n > 0; n--, q += 110) {
    const d = half(q)
    for (let i: usize = 0; i < 32; i++, y += 32) {
      const high = <u32>load<u8>(q + (i >> 2), 66) >> ((<u32>(i & 3)) << 1)
      const at = q + (i << 1)
      const a = <u32>load<u8>(at, 2) | ((high & 1) << 8)
      const b = <u32>load<u8>(at, 3) | ((high & 2) << 7)
      const scale = f32x4.splat(d * <f32>((nibble(q + 106, i >> 2) << 1) | 1))
      put(fours(grid, a, b), load<u8>(q + i, 74), scale, y)
    }
  }
}

/** point k of IQ1 with one more or less */
function shifted(grid: usize, k: u32, less: bool, scale: f32, y: usize): void {
  put(i16x8.add(eight(grid, k), i16x8.splat(less ? -1 : 1)), 0, f32x4.splat(scale * <f32>0.125), y)
}

export function fromIq1s(q: usize, n: i32, y: usize, grid: usize): void {
  for (; n > 0; n--, q += 50) {
    const d = half(q)
    for (let i: usize = 0; i < 32; i++, y += 32) {
      const w = <u32>load<u16>(q + ((i >> 2) << 1), 34)
      const k = <u32>load<u8>(q + i, 2) | (((w >> (3 * <u32>(i & 3))) & 7) << 8)
      shifted(grid, k, w >> 15 !== 0, d * <f32>((((w >> 12) & 7) << 1) | 1), y)
    }
  }
}

export function fromIq1m(q: usize, n: i32, y: usize, grid: usize): void {
  for (; n > 0; n--, q += 56) {
    // the upper four bits of four words, the lowest first
    const low = load<u32>(q, 48)
    const high = load<u32>(q, 52)
    const d = floatOf(((low >> 12) & 15) | ((low >> 24) & 0xf0) | ((high >> 4) & 0xf00) | ((high >> 16) & 0xf000))
    for (let i: usize = 0; i < 32; i++, y += 32) {
      const w = nibble(q + 32, i)
      const s = (<u32>load<u16>(q + ((i >> 3) << 1), 48) >> (3 * <u32>((i >> 1) & 3))) & 7
      shifted(grid, <u32>load<u8>(q + i) | ((w & 7) << 8), (w & 8) !== 0, d * <f32>((s << 1) | 1), y)
    }
  }
}
