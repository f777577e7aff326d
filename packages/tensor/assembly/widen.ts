import { bf16, f16 } from './lib/half'

/** n bfloat16 from `src` on → float32 from `dst` on. In place where src is the upper half of dst: it is read before it is overwritten. */
export function widenBf16(src: usize, dst: usize, n: i32): void {
  for (; n >= 4; n -= 4, src += 8, dst += 16) v128.store(dst, bf16(v128.load64_zero(src)))
  for (; n > 0; n--, src += 2, dst += 4) store<u32>(dst, (<u32>load<u16>(src)) << 16)
}

/** and of float16 */
export function widenF16(src: usize, dst: usize, n: i32): void {
  for (; n >= 4; n -= 4, src += 8, dst += 16) v128.store(dst, f16(v128.load64_zero(src)))
  for (; n > 0; n--, src += 2, dst += 4) store<f32>(dst, f32x4.extract_lane(f16(i16x8.splat(<i16>load<u16>(src))), 0))
}
