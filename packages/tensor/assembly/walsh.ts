/** y [rows, n] = x·H, H Walsh and Hadamard's of order n, a power of two and at least 4 */
export function walsh(x: usize, y: usize, rows: i32, n: i32): void {
  memory.copy(y, x, <usize>rows * <usize>n * 4)
  for (let r = 0; r < rows; r++) {
    const end = y + <usize>n * 4
    // strides 1 and 2, within four numbers
    for (let p = y; p < end; p += 16) {
      const v = v128.load(p)
      const even = i32x4.shuffle(v, v, 0, 0, 2, 2)
      const odd = i32x4.shuffle(v, v, 1, 1, 3, 3)
      const u = f32x4.add(even, v128.xor(odd, i32x4(0, <i32>0x80000000, 0, <i32>0x80000000)))
      const low = i32x4.shuffle(u, u, 0, 1, 0, 1)
      const high = i32x4.shuffle(u, u, 2, 3, 2, 3)
      v128.store(p, f32x4.add(low, v128.xor(high, i32x4(0, 0, <i32>0x80000000, <i32>0x80000000))))
    }
    let h: usize = 16 // bytes from one to the other
    const size = <usize>n * 4
    // two strides at a time
    for (; h * 4 <= size; h *= 4)
      for (let i = y; i < end; i += 4 * h)
        for (let p = i; p < i + h; p += 16) {
          const a = v128.load(p)
          const b = v128.load(p + h)
          const c = v128.load(p + 2 * h)
          const d = v128.load(p + 3 * h)
          const ab = f32x4.add(a, b)
          const a_b = f32x4.sub(a, b)
          const cd = f32x4.add(c, d)
          const c_d = f32x4.sub(c, d)
          v128.store(p, f32x4.add(ab, cd))
          v128.store(p + h, f32x4.add(a_b, c_d))
          v128.store(p + 2 * h, f32x4.sub(ab, cd))
          v128.store(p + 3 * h, f32x4.sub(a_b, c_d))
        }
    if (h * 2 <= size)
      for (let p = y; p < y + h; p += 16) {
        const a = v128.load(p)
        const b = v128.load(p + h)
        v128.store(p, f32x4.add(a, b))
        v128.store(p + h, f32x4.sub(a, b))
      }
    y = end
  }
}
