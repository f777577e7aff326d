import { bfloats, halves } from '../../tensor/assembly/lib/half'

/** Packed matrices → float32: numbers [from, to) of the matrix row by row, of which `block` share a scale. */

/** no code is above 15, so what a lookup beyond the table gives does not matter */
function look(table: v128, codes: v128): v128 {
  if (isDefined(RELAXED)) return i8x16.relaxed_swizzle(table, codes)
  return i8x16.swizzle(table, codes)
}

/**
 * level·scale + shift of 4-bit codes, two a byte, the first in the high half; no shift where its address is 0. After the
 * 16 levels come their first bytes, their second, third and fourth: four tables that look 16 codes up at a time.
 */
export function four(
  q: usize,
  levels: usize,
  scale: usize,
  shift: usize,
  block: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  const t0 = v128.load(levels, 64)
  const t1 = v128.load(levels, 80)
  const t2 = v128.load(levels, 96)
  const t3 = v128.load(levels, 112)
  const low = i8x16.splat(15)
  for (let b = from / block; from < to; b++) {
    const s = load<f32>(scale + ((<usize>b) << 2))
    const z: f32 = shift ? load<f32>(shift + ((<usize>b) << 2)) : 0
    const factor = f32x4.splat(s)
    const more = f32x4.splat(z)
    const end = min((b + 1) * block, to)
    if (from & 1) {
      store<f32>(y, load<f32>(levels + ((<usize>load<u8>(q + (from >> 1)) & 15) << 2)) * s + z)
      from++
      y += 4
    }
    for (; from + 16 <= end; from += 16, y += 64) {
      const w = v128.load64_zero(q + (from >> 1))
      const mixed = i8x16.shuffle(i16x8.shr_u(w, 4), w, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
      const codes = v128.and(mixed, low)
      const b0 = look(t0, codes)
      const b1 = look(t1, codes)
      const b2 = look(t2, codes)
      const b3 = look(t3, codes)
      const lo01 = i8x16.shuffle(b0, b1, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
      const hi01 = i8x16.shuffle(b0, b1, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
      const lo23 = i8x16.shuffle(b2, b3, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
      const hi23 = i8x16.shuffle(b2, b3, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
      v128.store(y, f32x4.add(f32x4.mul(i16x8.shuffle(lo01, lo23, 0, 8, 1, 9, 2, 10, 3, 11), factor), more))
      v128.store(y, f32x4.add(f32x4.mul(i16x8.shuffle(lo01, lo23, 4, 12, 5, 13, 6, 14, 7, 15), factor), more), 16)
      v128.store(y, f32x4.add(f32x4.mul(i16x8.shuffle(hi01, hi23, 0, 8, 1, 9, 2, 10, 3, 11), factor), more), 32)
      v128.store(y, f32x4.add(f32x4.mul(i16x8.shuffle(hi01, hi23, 4, 12, 5, 13, 6, 14, 7, 15), factor), more), 48)
    }
    for (; from < end; from++, y += 4) {
      const code = (load<u8>(q + (from >> 1)) >> (from & 1 ? 0 : 4)) & 15
      store<f32>(y, load<f32>(levels + ((<usize>code) << 2)) * s + z)
    }
  }
}

/** level·scale + offset of 8-bit codes, 256 levels; no offset where its address is 0 */
export function eight(
  q: usize,
  levels: usize,
  scale: usize,
  offset: usize,
  block: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  const z: f32 = offset ? load<f32>(offset) : 0
  const more = f32x4.splat(z)
  for (let b = from / block; from < to; b++) {
    const s = load<f32>(scale + ((<usize>b) << 2))
    const factor = f32x4.splat(s)
    const end = min((b + 1) * block, to)
    for (; from + 4 <= end; from += 4, y += 16) {
      const w = load<u32>(q + from)
      let v = v128.load32_zero(levels + ((<usize>(w & 255)) << 2))
      v = v128.load32_lane(levels + ((<usize>((w >> 8) & 255)) << 2), v, 1)
      v = v128.load32_lane(levels + ((<usize>((w >> 16) & 255)) << 2), v, 2)
      v = v128.load32_lane(levels + ((<usize>(w >> 24)) << 2), v, 3)
      v128.store(y, f32x4.add(f32x4.mul(v, factor), more))
    }
    for (; from < end; from++, y += 4) store<f32>(y, load<f32>(levels + ((<usize>load<u8>(q + from)) << 2)) * s + z)
  }
}

/** (code·scale)·unit of signed 8-bit codes */
export function linear(q: usize, scale: usize, unit: f32, block: i32, from: i32, to: i32, y: usize): void {
  const units = f32x4.splat(unit)
  for (let b = from / block; from < to; b++) {
    const s = load<f32>(scale + ((<usize>b) << 2))
    const factor = f32x4.splat(s)
    const end = min((b + 1) * block, to)
    for (; from + 8 <= end; from += 8, y += 32) {
      const w = v128.load_ext<i8>(q + from)
      v128.store(y, f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(w)), factor), units))
      v128.store(y, f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(w)), factor), units), 16)
    }
    for (; from < end; from++, y += 4) store<f32>(y, <f32>load<i8>(q + from) * s * unit)
  }
}

/** bfloat16 */
export function bfloat(q: usize, from: i32, to: i32, y: usize): void {
  bfloats(q + ((<usize>from) << 1), y, to - from)
}

/** float16 */
export function half(q: usize, from: i32, to: i32, y: usize): void {
  halves(q + ((<usize>from) << 1), y, to - from)
}
