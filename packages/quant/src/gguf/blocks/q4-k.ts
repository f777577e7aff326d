import { dequantizePairs, PAIRS_SCALE, quantizePairs } from '../pairs.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(256)
const SEARCH = { most: 15, start: -1, delta: 0.1, steps: 20 }

/** d·s·q − dmin·m, q of 4 bits, s and m of 6 bits for each 32 numbers */
export const q4_k: Block = {
  ...ggmlTypes.Q4_K,
  quantize: (x, from, out, at, importance) => {
    quantizePairs(x, from, out, at, codes, SEARCH, importance)
    for (let i = 0; i < 128; i++) {
      const first = 64 * (i >> 5) + (i & 31)
      out[at + 16 + i] = codes[first]! | (codes[first + 32]! << 4)
    }
  },
  dequantize: (bytes, at, out, to) =>
    dequantizePairs(bytes, at, out, to, (b, l) => (bytes[at + 16 + 32 * (b >> 1) + l]! >> (4 * (b & 1))) & 15),
  shader: {
    codes: 'return vec4f(nibblesOf(wordAt(at + 16u + e / 64u * 32u + (e & 31u)) >> (e / 32u % 2u * 4u)));',
    scale: PAIRS_SCALE,
  },
}
