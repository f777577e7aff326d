import { fitMin, fitPositive, weigh } from '../fit.ts'
import { f, half, putHalf, putPairs, squares, within } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(256)
const weights = new Float32Array(16)
const scales = new Float32Array(16)
const mins = new Float32Array(16)
const sums = new Float32Array(16)
const levels = new Uint8Array(16)
const PLAIN = { most: 3, start: -0.5, delta: 0.1, steps: 15, absolute: true }
const WEIGHTED = { most: 3, start: -0.9, delta: 0.05, steps: 36 }

/** d·s·q − dmin·m, q of 2 bits, s and m of 4 bits for each 16 numbers */
export const q2_k: Block = {
  ...ggmlTypes.Q2_K,
  quantize: (x, from, out, at, importance) => {
    const power = importance ? squares(x, from, 256) / 256 : 0
    for (let j = 0; j < 16; j++) {
      const start = from + 16 * j
      if (importance) weigh(x, start, 16, importance.columns, importance.at + 16 * j, power, weights)
      else for (let i = 0; i < 16; i++) weights[i] = Math.abs(x[start + i]!)
      sums[j] = weights.reduce((a, w) => f(a + w), 0)
      const search = importance ? WEIGHTED : PLAIN
      scales[j] = fitMin(x, start, 16, search, weights, codes, 16 * j, mins, j)
    }
    const put = (values: Float32Array, shift: number, place: number): number => {
      if (importance) {
        const d = putHalf(out, at + place, fitPositive(values, 15, levels, sums))
        for (let j = 0; j < 16; j++) out[at + j]! |= levels[j]! << shift
        return d
      }
      const most = Math.max(0, ...values)
      const inverse = most > 0 ? f(15 / most) : 0
      for (let j = 0; j < 16; j++) out[at + j]! |= within(0, 15, f(inverse * values[j]!)) << shift
      return putHalf(out, at + place, f(most / 15))
    }
    out.fill(0, at, at + 16)
    const d = put(scales, 0, 80)
    const least = put(mins, 4, 82)
    for (let j = 0; j < 16; j++) {
      const s = f(d * (out[at + j]! & 15))
      if (!s) continue
      const m = f(least * (out[at + j]! >> 4))
      for (let i = 16 * j; i < 16 * j + 16; i++) codes[i] = within(0, 3, f(f(x[from + i]! + m) / s))
    }
    putPairs(codes, out, at + 16)
  },
  dequantize: (bytes, at, out, to) => {
    const [d, least] = [half(bytes, at + 80), half(bytes, at + 82)]
    for (let j = 0; j < 16; j++) {
      const [s, m] = [f(d * (bytes[at + j]! & 15)), f(least * (bytes[at + j]! >> 4))]
      const first = at + 16 + 32 * (j >> 3) + 16 * (j & 1)
      const shift = j & 6
      for (let i = 0; i < 16; i++) out[to + 16 * j + i] = f(s * ((bytes[first + i]! >> shift) & 3)) - m
    }
  },
  shader: {
    codes: `
  let w = wordAt(at + 16u + e / 128u * 32u + (e & 31u)) >> (e / 32u % 4u * 2u);
  return vec4f(bytesOf(w) & vec4u(3u));`,
    scale: `
  let s = byteAt(at + e / 16u);
  return vec2f(halfAt(at + 80u) * f32(s & 15u), -halfAt(at + 82u) * f32(s >> 4u));`,
  },
}
