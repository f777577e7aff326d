import { fitMin, fitScale, gather, weigh } from '../lib/fit'
import { putHalf } from '../lib/float16'
import { away, CODES, inverseOf, largest, MINS, narrow, nibbles, own, SCALES, spreadBlocks, squares } from './shared'

/** Blocks of 32 numbers: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1. */

export function toQ80(x: usize, rows: i32, width: i32, _columns: usize, q: usize, _scratch: usize, _thread: i32): void {
  for (let n = rows * (width >> 5); n > 0; n--, q += 34) {
    let most = f32x4.abs(v128.load(x))
    for (let i: usize = 16; i < 128; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(x + i)))
    const d = largest(most) / 127
    const inverse = inverseOf(d)
    putHalf(q, d)
    for (let i: usize = 0; i < 32; i += 16, x += 64) {
      const low = away(x, inverse)
      v128.store(q + i, i8x16.narrow_i16x8_s(low, away(x + 32, inverse)), 2)
    }
  }
}

/** the first of 32 numbers that equals v, magnitudes alone where `signless` */
function first(x: usize, v: f32, signless: bool): f32 {
  const wanted = f32x4.splat(v)
  for (let i = 0; i < 32; i += 4, x += 16) {
    const four = v128.load(x)
    const found = i32x4.bitmask(f32x4.eq(signless ? f32x4.abs(four) : four, wanted))
    if (found) return load<f32>(x + ((<usize>ctz(found)) << 2))
  }
  return v
}

/** 32 codes of 5 bits or of 4: the fifth bits before the others */
function putFive(q: usize, low: v128, high: v128, five: bool): void {
  if (five) {
    store<u16>(q, <u16>i8x16.bitmask(i8x16.shl(low, 3)))
    store<u16>(q, <u16>i8x16.bitmask(i8x16.shl(high, 3)), 2)
  }
  v128.store(q + (five ? 4 : 0), nibbles(low, high))
}

/** 16 numbers less `least`, times `inverse`, plus `more`, cut to whole ones, at most `most`, as bytes */
function rounded(x: usize, least: v128, inverse: v128, more: v128, most: v128): v128 {
  const a = cut(v128.load(x), least, inverse, more, most)
  const b = cut(v128.load(x, 16), least, inverse, more, most)
  const c = cut(v128.load(x, 32), least, inverse, more, most)
  return narrow(a, b, c, cut(v128.load(x, 48), least, inverse, more, most))
}
function cut(x: v128, least: v128, inverse: v128, more: v128, most: v128): v128 {
  const v = f32x4.add(f32x4.mul(f32x4.sub(x, least), inverse), more)
  return i32x4.min_s(i32x4.trunc_sat_f32x4_s(v), most)
}

/** codes 0 ... top of x ≈ d·code + m where `affine`, and of x ≈ d·(code − (top + 1)/2) else */
function small(
  x: usize,
  rows: i32,
  width: i32,
  columns: usize,
  q: usize,
  s: usize,
  top: f32,
  affine: bool,
  five: bool,
): void {
  const blocks = width >> 5
  const head: usize = affine ? 4 : 2
  const size: usize = head + (five ? 20 : 16)
  const middle: f32 = (top + 1) / 2
  const most = i32x4.splat(<i32>top)
  const more = f32x4.splat(affine ? 0.5 : middle + 0.5)
  for (let r = 0; r < rows; r++, x += (<usize>width) << 2) {
    if (columns) {
      const power = f32x4.splat(squares(x, width) / <f32>width)
      for (let b = 0; b < blocks; b += 4) {
        const count = min(4, blocks - b)
        spreadBlocks(s, x, columns, b, count)
        weigh(s, 32, power)
        const d = affine ? fitMin(s, 32, top, -0.9, 0.05, 36, false, s + MINS) : fitScale(s, 32, middle)
        v128.store(s + SCALES, d)
        gather(s, 32, s + CODES, 32)
        for (let j: usize = 0; j < <usize>count; j++, q += size) {
          putHalf(q, load<f32>(s + SCALES + (j << 2)))
          if (affine) putHalf(q + 2, -load<f32>(s + MINS + (j << 2)))
          const codes = s + CODES + (j << 5)
          putFive(q + head, v128.load(codes), v128.load(codes, 16), five)
        }
      }
      continue
    }
    for (let b = 0; b < blocks; b++, q += size) {
      const at = x + ((<usize>b) << 7)
      let least: f32 = 0
      let d: f32 = 0
      if (affine) {
        let low = v128.load(at)
        let high = low
        for (let i: usize = 16; i < 128; i += 16) {
          low = f32x4.pmin(low, v128.load(at + i))
          high = f32x4.pmax(high, v128.load(at + i))
        }
        // of zeros of both signs, the first counts
        least = first(at, -largest(f32x4.neg(low)), false)
        d = (first(at, largest(high), false) - least) / top
        putHalf(q + 2, least)
      } else {
        let a = f32x4.abs(v128.load(at))
        for (let i: usize = 16; i < 128; i += 16) a = f32x4.pmax(a, f32x4.abs(v128.load(at + i)))
        const m = largest(a)
        d = (m ? first(at, m, true) : 0) / -middle
      }
      putHalf(q, d)
      const inverse = inverseOf(d)
      const from = f32x4.splat(least)
      const low = rounded(at, from, inverse, more, most)
      putFive(q + head, low, rounded(at + 64, from, inverse, more, most), five)
    }
  }
}

export function toQ40(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  small(x, rows, width, columns, q, own(scratch, thread), 15, false, false)
}
export function toQ50(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  small(x, rows, width, columns, q, own(scratch, thread), 31, false, true)
}
export function toQ41(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  small(x, rows, width, columns, q, own(scratch, thread), 15, true, false)
}
export function toQ51(x: usize, rows: i32, width: i32, columns: usize, q: usize, scratch: usize, thread: i32): void {
  small(x, rows, width, columns, q, own(scratch, thread), 31, true, true)
}
