/** the float16 at an address */
export function half(at: usize): f32 {
  return floatOf(<u32>load<u16>(at))
}
/** the float16 of these bits */
export function floatOf(h: u32): f32 {
  const rest = h & 0x7fff
  const bits =
    rest >= 0x7c00
      ? (rest << 13) | 0x7f800000
      : reinterpret<u32>(reinterpret<f32>(rest << 13) * <f32>5.192296858534828e33)
  return reinterpret<f32>(bits | ((h & 0x8000) << 16))
}

/** rounds to float16, halves to even, at most ±65504, NaN to 0; gives back what was written */
export function putHalf(at: usize, v: f32): f32 {
  if (!(abs<f32>(v) >= 0)) v = 0
  const size = min<f32>(abs<f32>(v), 65504)
  const u = reinterpret<u32>(size)
  // below 2⁻¹⁴ steps are 2⁻²⁴; float32 rounds to that when 1/2 is added
  const small = reinterpret<u32>(size + <f32>0.5) - 0x3f000000
  const large = ((u + 0xfff + ((u >> 13) & 1)) >> 13) - (112 << 10)
  const sign = (reinterpret<u32>(v) >> 16) & 0x8000
  store<u16>(at, <u16>(sign | (u < 0x38800000 ? small : large)))
  return half(at)
}
