/** Packed matrices → float32: numbers [from, to) of the matrix row by row. */

/** `bits` bytes that eight codes fill */
function eightCodes(p: usize, bits: i32): u32 {
  if (bits === 4) return load<u32>(p)
  if (bits === 3) return <u32>load<u16>(p) | ((<u32>load<u8>(p, 2)) << 16)
  if (bits === 2) return <u32>load<u16>(p)
  return <u32>load<u8>(p)
}

/**
 * (code − zero)·scale, `block` numbers sharing a scale and, where `each` is 4 and not 0, a zero. Codes of 1, 2, 3, 4 or 8
 * bits are one stream, lowest bit first.
 */
export function uniform(
  q: usize,
  bits: i32,
  scale: usize,
  zero: usize,
  each: i32,
  block: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  const top = 32 - bits
  const mask = (1 << bits) - 1
  // a product moves each lane's code to the top, whence it is shifted down
  const lanes = i32x4(1 << top, 1 << (top - bits), 1 << max(top - 2 * bits, 0), 1 << max(top - 3 * bits, 0))
  for (let b = from / block; from < to; b++) {
    const s = load<f32>(scale + ((<usize>b) << 2))
    const z = load<f32>(zero + <usize>b * each)
    const factor = f32x4.splat(s)
    const less = f32x4.splat(z)
    const end = min((b + 1) * block, to)
    while (from < end) {
      if ((from & 7) === 0 && from + 8 <= end) {
        if (bits === 8) {
          for (; from + 8 <= end; from += 8, y += 32) {
            const w = v128.load_ext<u8>(q + from)
            v128.store(y, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(w)), less), factor))
            v128.store(y, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(w)), less), factor), 16)
          }
        } else {
          for (; from + 8 <= end; from += 8, y += 32) {
            const w = eightCodes(q + (from >> 3) * bits, bits)
            const low = i32x4.shr_u(i32x4.mul(i32x4.splat(w), lanes), top)
            const high = i32x4.shr_u(i32x4.mul(i32x4.splat(w >> (4 * bits)), lanes), top)
            v128.store(y, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_u(low), less), factor))
            v128.store(y, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_u(high), less), factor), 16)
          }
        }
      } else {
        // bit of the stream, which may be past 2³¹; a code may lie in two bytes
        const bit = <u64>from * bits
        const at = q + <usize>(bit >> 3)
        const shift = <i32>(bit & 7)
        let w = <u32>load<u8>(at)
        if (shift + bits > 8) w |= (<u32>load<u8>(at, 1)) << 8
        store<f32>(y, (<f32>((w >> shift) & mask) - z) * s)
        from++
        y += 4
      }
    }
  }
}

/** level·scale of 8-bit codes: a scale for each `tall` rows and `wide` columns */
export function tiles(
  q: usize,
  levels: usize,
  scale: usize,
  width: i32,
  tall: i32,
  wide: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  const across = (width + wide - 1) / wide
  while (from < to) {
    const row = from / width
    const column = from - row * width
    const tile = column / wide
    const s = load<f32>(scale + ((<usize>((row / tall) * across + tile)) << 2))
    const factor = f32x4.splat(s)
    const end = min(row * width + min((tile + 1) * wide, width), to)
    for (; from + 4 <= end; from += 4, y += 16) {
      const w = load<u32>(q + from)
      let v = v128.load32_zero(levels + ((<usize>(w & 255)) << 2))
      v = v128.load32_lane(levels + ((<usize>((w >> 8) & 255)) << 2), v, 1)
      v = v128.load32_lane(levels + ((<usize>((w >> 16) & 255)) << 2), v, 2)
      v = v128.load32_lane(levels + ((<usize>(w >> 24)) << 2), v, 3)
      v128.store(y, f32x4.mul(v, factor))
    }
    for (; from < end; from++, y += 4) store<f32>(y, load<f32>(levels + ((<usize>load<u8>(q + from)) << 2)) * s)
  }
}

/** −1, 0, 1 times scale, five to a byte: `digits` has eight floats for each byte, of which five count */
export function trits(q: usize, digits: usize, scale: usize, block: i32, from: i32, to: i32, y: usize): void {
  for (let b = from / block; from < to; b++) {
    const s = load<f32>(scale + ((<usize>b) << 2))
    const factor = f32x4.splat(s)
    const end = min((b + 1) * block, to)
    let byte = from / 5
    let digit = from - 5 * byte
    while (from < end) {
      const d = digits + ((<usize>load<u8>(q + byte)) << 5)
      if (digit === 0 && from + 5 <= end) {
        v128.store(y, f32x4.mul(v128.load(d), factor))
        store<f32>(y, load<f32>(d, 16) * s, 16)
        from += 5
        y += 20
        byte++
      } else {
        store<f32>(y, load<f32>(d + ((<usize>digit) << 2)) * s)
        from++
        y += 4
        if (++digit === 5) {
          digit = 0
          byte++
        }
      }
    }
  }
}
