import { fitLevels, gather, levelsOf, squareAll, weigh, within } from '../lib/fit'
import { putHalf } from '../lib/float16'
import {
  CODES,
  inverseOf,
  LEVELS,
  own,
  peakOf,
  putNibbles,
  SCALES,
  spreadBlocks,
  spreadGroups,
  squares,
  squaresOf,
} from './shared'

/** IQ4_NL; a block of IQ4_XS is among those of 256. */

/** 1/d, and 0 for 0, of each lane */
function inverses(d: v128): v128 {
  return v128.and(f32x4.div(f32x4.splat(1), d), f32x4.ne(d, f32x4.splat(0)))
}

export function toIq4nl(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  const s = own(scratch, thread)
  const blocks = width >> 5
  for (let r = 0; r < rows; r++, x += (<usize>width) << 2)
    for (let b = 0; b < blocks; b += 4) {
      const count = min(4, blocks - b)
      spreadBlocks(s, x, columns, b, count)
      if (columns) weigh(s, 32, f32x4.mul(squaresOf(s, 32), f32x4.splat(0.0625)))
      else squareAll(s, 32)
      const d = fitLevels(s)
      levelsOf(s, inverses(d))
      gather(s, 32, s + CODES, 32)
      v128.store(s + SCALES, d)
      for (let j: usize = 0; j < <usize>count; j++, q += 18) {
        putHalf(q, load<f32>(s + SCALES + (j << 2)))
        putNibbles(s + CODES + (j << 5), q + 2)
      }
    }
}

/** a block of IQ4_XS */
export function iq4xs(x: usize, columns: usize, q: usize, s: usize): void {
  const power = f32x4.splat(columns ? (2 * squares(x, 256)) / 256 : 0)
  for (let g: usize = 0; g < 2; g++) {
    spreadGroups(s, x + (g << 9), columns ? columns + (g << 9) : 0, 32)
    if (columns) weigh(s, 32, power)
    else squareAll(s, 32)
    v128.store(s + SCALES + (g << 4), fitLevels(s))
  }
  const d: f32 = -peakOf(s + SCALES, 8) / 32
  putHalf(q, d)
  const inverse = inverseOf(d)
  store<u16>(q, 0, 2)
  store<u32>(q, 0, 4)
  for (let g: usize = 0; g < 2; g++) {
    spreadGroups(s, x + (g << 9), 0, 32)
    const ratio = f32x4.mul(inverse, v128.load(s + SCALES + (g << 4)))
    const level = within(f32x4.splat(-32), f32x4.splat(31), ratio)
    levelsOf(s, inverses(f32x4.mul(f32x4.splat(d), level)))
    gather(s, 32, s + CODES, 32)
    v128.store(s + LEVELS, i32x4.trunc_sat_f32x4_s(f32x4.add(level, f32x4.splat(32))))
    for (let j: usize = 0; j < 4; j++) {
      const b = 4 * g + j
      const l = load<u32>(s + LEVELS + (j << 2))
      store<u16>(q, load<u16>(q, 2) | <u16>((l >> 4) << (2 * b)), 2)
      store<u8>(q + (b >> 1), load<u8>(q + (b >> 1), 4) | <u8>((l & 15) << ((b & 1) << 2)), 4)
      putNibbles(s + CODES + (j << 5), q + (b << 4) + 8)
    }
  }
}
