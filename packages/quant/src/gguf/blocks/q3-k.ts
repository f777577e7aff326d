import { fitByMoves, fitScale, weigh } from '../fit.ts'
import { f, half, putHalf, putPairs, squares, within } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(256)
const weights = new Float32Array(16)
const scales = new Float32Array(16)
const sums = new Float32Array(16)
const levels = new Uint8Array(16)

/** scale j of a block whose 12 bytes of scales are at `at`, -32 ... 31 */
const scaleAt = (bytes: Uint8Array, at: number, j: number): number => {
  const low = j < 8 ? bytes[at + j]! & 15 : bytes[at + j - 8]! >> 4
  return (low | (((bytes[at + 8 + (j & 3)]! >> (2 * (j >> 2))) & 3) << 4)) - 32
}

/** d·(s − 32)·q, q of 3 bits from −4, the highest apart (and set where nothing is taken off), s of 6 bits for each 16 numbers */
export const q3_k: Block = {
  ...ggmlTypes.Q3_K,
  quantize: (x, from, out, at, importance) => {
    const power = importance ? f(2 * squares(x, from, 256)) / 256 : 0
    for (let j = 0; j < 16; j++) {
      const start = from + 16 * j
      if (importance) {
        weigh(x, start, 16, importance.columns, importance.at + 16 * j, power, weights)
        sums[j] = weights.reduce((a, w) => f(a + w), 0)
        scales[j] = fitScale(x, start, 16, 4, weights, codes, 16 * j)
      } else scales[j] = fitByMoves(x, start, 16, codes, 16 * j)
    }
    let d = 0
    if (importance) d = fitScale(scales, 0, 16, 32, sums, levels, 0)
    else {
      const peak = scales.reduce((p, s) => (Math.abs(s) > Math.abs(p) ? s : p), 0)
      const inverse = peak ? f(-32 / peak) : 0
      for (let j = 0; j < 16; j++) levels[j] = peak ? within(-32, 31, f(inverse * scales[j]!)) + 32 : 0
      d = peak ? f(1 / inverse) : 0
    }
    d = putHalf(out, at + 108, d)
    out.fill(0, at + 96, at + 108)
    for (let j = 0; j < 16; j++) {
      const s = levels[j]!
      out[at + 96 + (j & 7)]! |= (s & 15) << (j < 8 ? 0 : 4)
      out[at + 104 + (j & 3)]! |= (s >> 4) << (2 * (j >> 2))
    }
    for (let j = 0; j < 16; j++) {
      const s = f(d * scaleAt(out, at + 96, j))
      if (!s) continue
      for (let i = 16 * j; i < 16 * j + 16; i++) codes[i] = within(-4, 3, f(x[from + i]! / s)) + 4
    }
    out.fill(0, at, at + 32)
    for (let i = 0; i < 256; i++) out[at + (i & 31)]! |= (codes[i]! >> 2) << (i >> 5)
    putPairs(codes, out, at + 32)
  },
  dequantize: (bytes, at, out, to) => {
    const d = half(bytes, at + 108)
    for (let j = 0; j < 16; j++) {
      const s = f(d * scaleAt(bytes, at + 96, j))
      const first = 16 * (j & 1)
      const low = at + 32 + 32 * (j >> 3) + first
      for (let i = 0; i < 16; i++) {
        const high = (bytes[at + first + i]! >> (j >> 1)) & 1
        out[to + 16 * j + i] = s * (((bytes[low + i]! >> (j & 6)) & 3) + 4 * high - 4)
      }
    }
  },
  shader: {
    codes: `
  let low = wordAt(at + 32u + e / 128u * 32u + (e & 31u)) >> (e / 32u % 4u * 2u);
  let high = wordAt(at + (e & 31u)) >> (e / 32u);
  return vec4f((bytesOf(low) & vec4u(3u)) + (bytesOf(high) & vec4u(1u)) * 4u) - vec4f(4.0);`,
    scale: `
  let j = e / 16u;
  let low = (byteAt(at + 96u + j % 8u) >> (j / 8u * 4u)) & 15u;
  let high = (byteAt(at + 104u + j % 4u) >> (j / 4u * 2u)) & 3u;
  return vec2f(halfAt(at + 108u) * (f32(low | (high << 4u)) - 32.0), 0.0);`,
  },
}
