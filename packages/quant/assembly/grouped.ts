/** Codes of 1, 2, 3, 4 or 8 bits, one stream from the lowest bit up, and a scale and a zero point of each group → float32. */

/** code i, in the bytes that hold its bits and no others */
function one(q: usize, bits: i32, i: i32): i32 {
  const bit = bits * i
  const at = q + (bit >> 3)
  const shift = bit & 7
  let w = <u32>load<u8>(at)
  if (shift + bits > 8) w |= (<u32>load<u8>(at, 1)) << 8
  return (w >> shift) & ((1 << bits) - 1)
}

/** the bits of codes i to i + 3, i a multiple of 4 */
function quad(q: usize, bits: i32, i: i32): u32 {
  const bit = bits * i
  const at = q + (bit >> 3)
  if (bits === 4) return <u32>load<u16>(at)
  if (bits === 2) return <u32>load<u8>(at)
  if (bits === 3) return <u32>load<u16>(at) >> (bit & 7)
  if (bits === 1) return <u32>load<u8>(at) >> (bit & 7)
  return load<u32>(at)
}

function masks(bits: i32): v128 {
  const m = (1 << bits) - 1
  return i32x4(m, m << bits, m << (2 * bits), m << (3 * bits))
}
/** what brings a masked code back to where it belongs: powers of two, so exactly */
function factors(bits: i32): v128 {
  const f: f32 = 1 / <f32>(1 << bits)
  return f32x4(1, f, f * f, f * f * f)
}

/** (code − zero)·scale of numbers [from, to), `block` of which share both */
export function blocks(q: usize, bits: i32, scale: usize, zero: usize, block: i32, from: i32, to: i32, y: usize): void {
  const mask = masks(bits)
  const factor = factors(bits)
  const low = i8x16.splat(15)
  for (let b = from / block; from < to; b++) {
    const s = load<f32>(scale + ((<usize>b) << 2))
    const z = load<f32>(zero + ((<usize>b) << 2))
    const ss = f32x4.splat(s)
    const zz = f32x4.splat(z)
    const end = min((b + 1) * block, to)
    for (; from < end && from & 3; from++, y += 4) store<f32>(y, (<f32>one(q, bits, from) - z) * s)
    if (bits === 4) {
      for (; from + 16 <= end; from += 16, y += 64) {
        const w = v128.load64_zero(q + (from >> 1))
        const codes = v128.and(
          i8x16.shuffle(w, i16x8.shr_u(w, 4), 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
          low,
        )
        const a = i16x8.extend_low_i8x16_u(codes)
        const c = i16x8.extend_high_i8x16_u(codes)
        v128.store(y, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(a)), zz), ss))
        v128.store(y, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(a)), zz), ss), 16)
        v128.store(y, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_u(c)), zz), ss), 32)
        v128.store(y, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_u(c)), zz), ss), 48)
      }
    }
    for (; from + 4 <= end; from += 4, y += 16) {
      const w = f32x4.convert_i32x4_u(v128.and(i32x4.splat(quad(q, bits, from)), mask))
      v128.store(y, f32x4.mul(f32x4.sub(f32x4.mul(w, factor), zz), ss))
    }
    for (; from < end; from++, y += 4) store<f32>(y, (<f32>one(q, bits, from) - z) * s)
  }
}

/** the same where number i shares them with i + count, i + 2·count and so on */
export function columns(
  q: usize,
  bits: i32,
  scale: usize,
  zero: usize,
  count: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  const mask = masks(bits)
  const factor = factors(bits)
  for (let c = from % count; from < to; c = 0) {
    const end = min(from + count - c, to)
    let s = scale + ((<usize>c) << 2)
    let z = zero + ((<usize>c) << 2)
    for (; from < end && from & 3; from++, y += 4, s += 4, z += 4)
      store<f32>(y, (<f32>one(q, bits, from) - load<f32>(z)) * load<f32>(s))
    for (; from + 4 <= end; from += 4, y += 16, s += 16, z += 16) {
      const w = f32x4.convert_i32x4_u(v128.and(i32x4.splat(quad(q, bits, from)), mask))
      v128.store(y, f32x4.mul(f32x4.sub(f32x4.mul(w, factor), v128.load(z)), v128.load(s)))
    }
    for (; from < end; from++, y += 4, s += 4, z += 4)
      store<f32>(y, (<f32>one(q, bits, from) - load<f32>(z)) * load<f32>(s))
  }
}
