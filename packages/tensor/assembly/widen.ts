import { bfloats, halves } from './lib/half'

/** n bfloat16 from `src` on → float32 from `dst` on */
export function widenBf16(src: usize, dst: usize, n: i32): void {
  bfloats(src, dst, n)
}

/** and of float16 */
export function widenF16(src: usize, dst: usize, n: i32): void {
  halves(src, dst, n)
}
