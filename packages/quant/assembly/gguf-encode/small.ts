import { putHalf } from '../lib/float16'
import { away, CODES, inverseOf, largest, own, putTwos } from './shared'

/** TQ2_0 and MXFP4. */

export function toTq20(x: usize, rows: i32, width: i32, _columns: usize, q: usize, scratch: usize, thread: i32): void {
  const codes = own(scratch, thread) + CODES
  const one = i8x16.splat(1)
  for (let n = rows * (width >> 8); n > 0; n--, q += 66) {
    let most = f32x4.abs(v128.load(x))
    for (let i: usize = 16; i < 1024; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)))
    const d = largest(most)
    const inverse = inverseOf(d)
    putHalf(q + 64, d)
    for (let i: usize = 0; i < 256; i += 16, x += 64) {
      const low = away(x, inverse)
      v128.store(codes + i, i8x16.add(i8x16.narrow_i16x8_s(low, away(x + 32, inverse)), one))
    }
    putTwos(codes, q)
  }
}

/** of the 4-bit floats times d the first that is nearest to x, by code */
function smallCode(x: v128, d: f32): v128 {
  let code = i32x4.splat(0)
  let least = f32x4.abs(x)
  for (let c = 1; c < 16; c++) {
    const m = c & 7
    // 0, 1, 2, 3, 4, 6, 8, 12
    const size = <f32>(m < 2 ? m : (2 + (m & 1)) << ((m >> 1) - 1))
    const gap = f32x4.abs(f32x4.sub(f32x4.splat((c > 7 ? -size : size) * d), x))
    const nearer = f32x4.lt(gap, least)
    code = v128.bitselect(i32x4.splat(c), code, nearer)
    least = v128.bitselect(gap, least, nearer)
  }
  return code
}

export function toMxfp4(x: usize, rows: i32, width: i32, _c: usize, q: usize, _scratch: usize, _thread: i32): void {
  for (let n = rows * (width >> 5); n > 0; n--, q += 17, x += 128) {
    let most = f32x4.abs(v128.load(x))
    for (let i: usize = 16; i < 128; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)))
    const e = max<i32>(0, min<i32>(254, <i32>(reinterpret<u32>(largest(most)) >> 23) - 2))
    const d = reinterpret<f32>(e < 2 ? 0x200000 << e : (e - 1) << 23)
    store<u8>(q, <u8>e)
    for (let i: usize = 0; i < 16; i += 4) {
      const low = smallCode(v128.load(x + (i << 2)), d)
      const both = v128.or(low, i32x4.shl(smallCode(v128.load(x + (i << 2), 64), d), 4))
      v128.store8_lane(q + i, both, 0, 1)
      v128.store8_lane(q + i, both, 4, 2)
      v128.store8_lane(q + i, both, 8, 3)
      v128.store8_lane(q + i, both, 12, 4)
    }
  }
}
