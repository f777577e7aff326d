/** Codes of 1, 2, 3, 4 or 8 bits, one stream from the lowest bit up → float32, groups being columns. */

/** code i, in the bytes that hold its bits and no others */
function one(q: usize, bits: i32, i: i32): f32 {
  const bit = <u64>i * bits // may be past 2³¹
  const at = q + <usize>(bit >> 3)
  const shift = <i32>(bit & 7)
  let w = <u32>load<u8>(at)
  if (shift + bits > 8) w |= (<u32>load<u8>(at, 1)) << 8
  return <f32>((w >> shift) & ((1 << bits) - 1))
}

/** the bits of codes i to i + 3, i a multiple of 4 */
function quad(q: usize, bits: i32, i: i32): u32 {
  const bit = <u64>i * bits
  const at = q + <usize>(bit >> 3)
  if (bits === 4) return <u32>load<u16>(at)
  if (bits === 2) return <u32>load<u8>(at)
  if (bits === 8) return load<u32>(at)
  const shift = <i32>(bit & 7)
  return bits === 3 ? <u32>load<u16>(at) >> shift : <u32>load<u8>(at) >> shift
}

/** (code − zero)·scale of numbers [from, to): i shares both with i + count, i + 2·count and so on */
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
  const m = (1 << bits) - 1
  const mask = i32x4(m, m << bits, m << (2 * bits), m << (3 * bits))
  // powers of two, so exactly what brings a masked code back to where it belongs
  const f: f32 = 1 / <f32>(1 << bits)
  const factor = f32x4(1, f, f * f, f * f * f)
  for (let c = from % count; from < to; c = 0) {
    const end = min(from + count - c, to)
    let s = scale + ((<usize>c) << 2)
    let z = zero + ((<usize>c) << 2)
    for (; from < end && from & 3; from++, y += 4, s += 4, z += 4)
      store<f32>(y, (one(q, bits, from) - load<f32>(z)) * load<f32>(s))
    for (; from + 4 <= end; from += 4, y += 16, s += 16, z += 16) {
      const w = f32x4.convert_i32x4_u(v128.and(i32x4.splat(quad(q, bits, from)), mask))
      v128.store(y, f32x4.mul(f32x4.sub(f32x4.mul(w, factor), v128.load(z)), v128.load(s)))
    }
    for (; from < end; from++, y += 4, s += 4, z += 4) store<f32>(y, (one(q, bits, from) - load<f32>(z)) * load<f32>(s))
  }
}
