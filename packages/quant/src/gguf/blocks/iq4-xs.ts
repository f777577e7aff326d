import { fitLevels, LEVELS, LEVELS_HEAD, nearestLevel, twicePower } from '../levels.ts'
import { f, half, levelNibbles, putHalf, putNibbles, within } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(256)
const scales = new Float32Array(8)

/** d·(s − 32)·level, one of 16 levels, s of 6 bits for each 32 numbers */
export const iq4_xs: Block = {
  ...ggmlTypes.IQ4_XS,
  quantize: (x, from, out, at, importance) => {
    const power = importance ? twicePower(x, from, 256) : 0
    let peak = 0
    for (let b = 0; b < 8; b++) {
      const s = fitLevels(x, from + 32 * b, { power, importance }, (importance?.at ?? 0) + 32 * b)
      scales[b] = s
      if (Math.abs(s) > Math.abs(peak)) peak = s
    }
    const d = f(-peak / 32)
    putHalf(out, at, d)
    const inverse = d ? f(1 / d) : 0
    out.fill(0, at + 2, at + 8)
    for (let b = 0; b < 8; b++) {
      const level = within(-32, 31, f(inverse * scales[b]!))
      const s = f(d * level)
      const one = s ? f(1 / s) : 0
      for (let i = 32 * b; i < 32 * b + 32; i++) codes[i] = nearestLevel(f(one * x[from + i]!))
      out[at + 2 + (b >> 2)]! |= ((level + 32) >> 4) << (2 * (b & 3))
      out[at + 4 + (b >> 1)]! |= ((level + 32) & 15) << (4 * (b & 1))
      putNibbles(codes, out, at + 8 + 16 * b, 32 * b)
    }
  },
  dequantize: (bytes, at, out, to) => {
    const d = half(bytes, at)
    for (let b = 0; b < 8; b++) {
      const low = (bytes[at + 4 + (b >> 1)]! >> (4 * (b & 1))) & 15
      const high = (bytes[at + 2 + (b >> 2)]! >> (2 * (b & 3))) & 3
      levelNibbles(bytes, at + 8 + 16 * b, 16, LEVELS, f(d * ((low | (high << 4)) - 32)), out, to + 32 * b)
    }
  },
  shader: {
    head: LEVELS_HEAD,
    codes: 'return levelsOf(nibblesOf(wordAt(at + 8u + e / 32u * 16u + (e & 15u)) >> (e / 16u % 2u * 4u)));',
    scale: `
  let b = e / 32u;
  let low = (byteAt(at + 4u + b / 2u) >> (b % 2u * 4u)) & 15u;
  let high = (byteAt(at + 2u + b / 4u) >> (b % 4u * 2u)) & 3u;
  return vec2f(halfAt(at) * (f32(low | (high << 4u)) - 32.0), 0.0);`,
  },
}
