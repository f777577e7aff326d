import { fitScale } from '../fit.ts'
import { f, half, nearest, putHalf, TINY, within } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(256)
const weights = new Float32Array(16)
const scales = new Float32Array(16)

/** d·s·(q − 32), q of 6 bits, the two highest apart, s of 8 bits for each 16 numbers */
export const q6_k: Block = {
  ...ggmlTypes.Q6_K,
  quantize: (x, from, out, at, importance) => {
    let peak = 0
    for (let j = 0; j < 16; j++) {
      const start = from + 16 * j
      for (let i = 0; i < 16; i++) {
        const v = x[start + i]!
        weights[i] = importance ? importance.columns[importance.at + 16 * j + i]! : v * v
      }
      const s = fitScale(x, start, 16, 32, weights, codes, 16 * j)
      scales[j] = s
      if (Math.abs(s) > Math.abs(peak)) peak = s
    }
    if (Math.abs(peak) < TINY) {
      out.fill(0, at, at + 210)
      return
    }
    const inverse = f(-128 / peak)
    const d = putHalf(out, at + 208, f(1 / inverse))
    for (let j = 0; j < 16; j++) {
      const level = Math.min(127, nearest(f(inverse * scales[j]!)))
      out[at + 192 + j] = level
      const s = f(d * level)
      if (!s) continue
      for (let i = 16 * j; i < 16 * j + 16; i++) codes[i] = within(-32, 31, f(x[from + i]! / s)) + 32
    }
    for (let n = 0; n < 2; n++)
      for (let l = 0; l < 32; l++) {
        const [a, b, c, e] = [0, 32, 64, 96].map((j) => codes[128 * n + j + l]!) as [number, number, number, number]
        out[at + 64 * n + l] = (a & 15) | ((c & 15) << 4)
        out[at + 64 * n + 32 + l] = (b & 15) | ((e & 15) << 4)
        out[at + 128 + 32 * n + l] = (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((e >> 4) << 6)
      }
  },
  dequantize: (bytes, at, out, to) => {
    const d = half(bytes, at + 208)
    for (let j = 0; j < 16; j++) {
      const s = f(d * ((bytes[at + 192 + j]! << 24) >> 24))
      const [n, part, first] = [j >> 3, (j & 7) >> 1, 16 * (j & 1)]
      const low = at + 64 * n + 32 * (part & 1) + first
      const high = at + 128 + 32 * n + first
      for (let i = 0; i < 16; i++) {
        const q = ((bytes[low + i]! >> (4 * (part >> 1))) & 15) | (((bytes[high + i]! >> (2 * part)) & 3) << 4)
        out[to + 16 * j + i] = s * (q - 32)
      }
    }
  },
  shader: {
    codes: `
  let n = e / 128u;
  let j = e / 32u % 4u;
  let low = nibblesOf(wordAt(at + n * 64u + j % 2u * 32u + (e & 31u)) >> (j / 2u * 4u));
  let high = bytesOf(wordAt(at + 128u + n * 32u + (e & 31u)) >> (j * 2u)) & vec4u(3u);
  return vec4f(low + high * 16u) - vec4f(32.0);`,
    scale: 'return vec2f(halfAt(at + 208u) * signedOf(byteAt(at + 192u + e / 16u)).x, 0.0);',
  },
}
