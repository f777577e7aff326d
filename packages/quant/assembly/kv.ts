import { halves } from '../../tensor/assembly/lib/half'
import { floatOf, putHalf } from './lib/float16'

/**
 * Keys and values of groups of tokens in few bits, as src/kv/groups.ts lays them out: unit u = group·texts + text has the
 * codes of its heads, tokens and channels in order, and float16 scales and minima by channel (`channels` 0) or by so many
 * channels of a token. Units [from, to).
 */

function partsOf(width: i32, channels: i32): i32 {
  return channels ? (width + channels - 1) / channels : 0
}
function gridsOf(heads: i32, width: i32, tokens: i32, channels: i32): i32 {
  return heads * (channels ? tokens * partsOf(width, channels) : width)
}
/** bytes of a unit's codes: whole words */
function bytesOf(heads: i32, width: i32, tokens: i32, bits: i32): usize {
  return <usize>(((<u64>heads * tokens * width * bits + 31) >> 5) << 2)
}
/** where the tokens of a unit's head lie in x [texts, heads, count·tokens, width] */
function place(u: i32, h: i32, texts: i32, heads: i32, width: i32, tokens: i32, count: i32): usize {
  const group = u / texts
  return <usize>(((u - group * texts) * heads + h) * count + group) * tokens * width * 4
}
/** n scales and then n minima as float32 */
function open(grid: usize, n: i32, to: usize): void {
  for (let i = 0, end = to + ((<usize>n) << 2); to < end; i++, to += 4) {
    const word = load<u32>(grid + ((<usize>i) << 2))
    store<f32>(to, floatOf(word & 0xffff))
    store<f32>(to + ((<usize>n) << 2), floatOf(word >> 16))
  }
}
/** do fours of channels lie in whole bytes, and share what they share? */
function byFours(width: i32, channels: i32): bool {
  return ((width | channels) & 3) === 0
}

function put(at: usize, low: f32, high: f32, most: f64): void {
  putHalf(at, <f32>((<f64>high - <f64>low) / most))
  putHalf(at + 2, low)
}

export function kvGrid(
  x: usize,
  bits: i32,
  texts: i32,
  heads: i32,
  width: i32,
  tokens: i32,
  count: i32,
  channels: i32,
  from: i32,
  to: i32,
  y: usize,
): void {
  const most = <f64>((1 << bits) - 1)
  let at = y + <usize>from * gridsOf(heads, width, tokens, channels) * 4
  for (let u = from; u < to; u++)
    for (let h = 0; h < heads; h++) {
      const start = x + place(u, h, texts, heads, width, tokens, count)
      const stop = start + ((<usize>(tokens * width)) << 2)
      const row = (<usize>width) << 2
      if (channels) {
        for (let line = start; line < stop; line += row)
          for (let p = line, end = line + row; p < end; at += 4) {
            let low = f32.MAX_VALUE
            let high = -f32.MAX_VALUE
            for (const last = min(p + ((<usize>channels) << 2), end); p < last; p += 4) {
              const v = load<f32>(p)
              if (v < low) low = v
              if (v > high) high = v
            }
            put(at, low, high, most)
          }
      } else {
        let s = 0
        for (; s + 4 <= width; s += 4) {
          let p = start + ((<usize>s) << 2)
          let low = v128.load(p)
          let high = low
          for (p += row; p < stop; p += row) {
            const v = v128.load(p)
            low = f32x4.pmin(low, v)
            high = f32x4.pmax(high, v)
          }
          put(at, f32x4.extract_lane(low, 0), f32x4.extract_lane(high, 0), most)
          put(at + 4, f32x4.extract_lane(low, 1), f32x4.extract_lane(high, 1), most)
          put(at + 8, f32x4.extract_lane(low, 2), f32x4.extract_lane(high, 2), most)
          put(at + 12, f32x4.extract_lane(low, 3), f32x4.extract_lane(high, 3), most)
          at += 16
        }
        for (; s < width; s++, at += 4) {
          let p = start + ((<usize>s) << 2)
          let low = load<f32>(p)
          let high = low
          for (p += row; p < stop; p += row) {
            const v = load<f32>(p)
            if (v < low) low = v
            if (v > high) high = v
          }
          put(at, low, high, most)
        }
      }
    }
}

/** clamp(round((x − least)/step), 0, most) of four, 0 where there is no step */
function codesOf(x: v128, step: v128, least: v128, most: v128): v128 {
  const none = f32x4.splat(0)
  const v = f32x4.nearest(f32x4.div(f32x4.sub(x, least), step))
  const held = f32x4.pmin(most, f32x4.pmax(none, v))
  return i32x4.trunc_sat_f32x4_s(v128.and(f32x4.gt(step, none), held))
}

export function kvCodes(
  x: usize,
  grid: usize,
  bits: i32,
  texts: i32,
  heads: i32,
  width: i32,
  tokens: i32,
  count: i32,
  channels: i32,
  from: i32,
  to: i32,
  q: usize,
  scratch: usize,
  thread: i32,
): void {
  const grids = bits > 8 ? 0 : gridsOf(heads, width, tokens, channels)
  const steps = scratch + ((<usize>thread * grids) << 3)
  const least = steps + ((<usize>grids) << 2)
  const size = bytesOf(heads, width, tokens, bits)
  const parts = partsOf(width, channels)
  const most = f32x4.splat(<f32>((1 << (bits & 31)) - 1))
  const lanes = i32x4(1, 1 << bits, 1 << (2 * bits), 1 << (3 * bits))
  const fours = byFours(width, channels)
  for (let u = from; u < to; u++) {
    const codes = q + <usize>u * size
    open(grid + ((<usize>u * grids) << 2), grids, steps)
    for (let h = 0; h < heads; h++) {
      let p = x + place(u, h, texts, heads, width, tokens, count)
      for (let t = 0; t < tokens; t++) {
        const row = h * tokens + t
        if (bits === 32) {
          memory.copy(codes + ((<usize>(row * width)) << 2), p, (<usize>width) << 2)
          p += (<usize>width) << 2
          continue
        }
        for (let s = 0; s < width; ) {
          const e = row * width + s
          if (bits === 16) {
            putHalf(codes + ((<usize>e) << 1), load<f32>(p))
            s++
            p += 4
            continue
          }
          const g = (<usize>(channels ? row * parts + s / channels : h * width + s)) << 2
          const at = codes + (<usize>(e * bits) >> 3)
          if (fours) {
            const k = channels ? v128.load32_splat(steps + g) : v128.load(steps + g)
            const m = channels ? v128.load32_splat(least + g) : v128.load(least + g)
            const c = i32x4.mul(codesOf(v128.load(p), k, m, most), lanes)
            const pair = v128.or(c, i64x2.shuffle(c, c, 1, 0))
            const word = i32x4.extract_lane(pair, 0) | i32x4.extract_lane(pair, 1)
            if (bits === 8) store<u32>(at, word)
            else if (bits === 4) store<u16>(at, <u16>word)
            else store<u8>(at, <u8>word)
            s += 4
            p += 16
          } else {
            const c = codesOf(v128.load32_splat(p), v128.load32_splat(steps + g), v128.load32_splat(least + g), most)
            const held: i32 = load<u8>(at)
            store<u8>(at, <u8>(held | (i32x4.extract_lane(c, 0) << ((e * bits) & 7))))
            s++
            p += 4
          }
        }
      }
    }
  }
}

export function kvValues(
  q: usize,
  grid: usize,
  bits: i32,
  texts: i32,
  heads: i32,
  width: i32,
  tokens: i32,
  count: i32,
  channels: i32,
  from: i32,
  to: i32,
  y: usize,
  scratch: usize,
  thread: i32,
): void {
  const grids = bits > 8 ? 0 : gridsOf(heads, width, tokens, channels)
  const steps = scratch + ((<usize>thread * grids) << 3)
  const least = steps + ((<usize>grids) << 2)
  const size = bytesOf(heads, width, tokens, bits)
  const parts = partsOf(width, channels)
  const top = 32 - bits
  // a product moves each lane's code to the top, whence it is shifted down
  const lanes = i32x4(1 << top, 1 << (top - bits), 1 << (top - 2 * bits), 1 << (top - 3 * bits))
  const fours = byFours(width, channels)
  const mask = (1 << (bits & 31)) - 1
  for (let u = from; u < to; u++) {
    const codes = q + <usize>u * size
    open(grid + ((<usize>u * grids) << 2), grids, steps)
    for (let h = 0; h < heads; h++) {
      let p = y + place(u, h, texts, heads, width, tokens, count)
      if (bits > 8) {
        const e = <usize>(h * tokens * width)
        if (bits === 32) memory.copy(p, codes + (e << 2), (<usize>(tokens * width)) << 2)
        else halves(codes + (e << 1), p, tokens * width)
        continue
      }
      for (let t = 0; t < tokens; t++) {
        const row = h * tokens + t
        let g = (<usize>(channels ? row * parts : h * width)) << 2
        if (fours) {
          let at = codes + (<usize>(row * width * bits) >> 3)
          for (let s = 0; s < width; ) {
            const end = channels ? min(s + channels, width) : width
            let k = v128.load32_splat(steps + g)
            let m = v128.load32_splat(least + g)
            for (; s < end; s += 4, p += 16) {
              if (!channels) {
                k = v128.load(steps + g)
                m = v128.load(least + g)
                g += 16
              }
              const w = bits === 8 ? load<u32>(at) : bits === 4 ? <u32>load<u16>(at) : <u32>load<u8>(at)
              at += bits >> 1
              const c = i32x4.shr_u(i32x4.mul(i32x4.splat(w), lanes), top)
              v128.store(p, f32x4.add(f32x4.mul(f32x4.convert_i32x4_s(c), k), m))
            }
            if (channels) g += 4
          }
        } else
          for (let s = 0; s < width; s++, p += 4) {
            const e = (row * width + s) * bits
            const byte: i32 = load<u8>(codes + (<usize>e >> 3))
            const code = (byte >> (e & 7)) & mask
            const i = g + ((<usize>(channels ? s / channels : s)) << 2)
            store<f32>(p, <f32>code * load<f32>(steps + i) + load<f32>(least + i))
          }
      }
    }
  }
}
