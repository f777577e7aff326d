import { dequantizePairs, PAIRS_SCALE, quantizePairs } from '../pairs.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(256)
const SEARCH = { most: 31, start: -0.5, delta: 0.1, steps: 15 }

/** d·s·q − dmin·m, q of 5 bits, the highest apart, s and m of 6 bits for each 32 numbers */
export const q5_k: Block = {
  ...ggmlTypes.Q5_K,
  quantize: (x, from, out, at, importance) => {
    quantizePairs(x, from, out, at, codes, SEARCH, importance)
    out.fill(0, at + 16, at + 48)
    for (let i = 0; i < 256; i++) out[at + 16 + (i & 31)]! |= (codes[i]! >> 4) << (i >> 5)
    for (let i = 0; i < 128; i++) {
      const first = 64 * (i >> 5) + (i & 31)
      out[at + 48 + i] = (codes[first]! & 15) | ((codes[first + 32]! & 15) << 4)
    }
  },
  dequantize: (bytes, at, out, to) =>
    dequantizePairs(bytes, at, out, to, (b, l) => {
      const low = (bytes[at + 48 + 32 * (b >> 1) + l]! >> (4 * (b & 1))) & 15
      return low | (((bytes[at + 16 + l]! >> b) & 1) << 4)
    }),
  shader: {
    codes: `
  let low = nibblesOf(wordAt(at + 48u + e / 64u * 32u + (e & 31u)) >> (e / 32u % 2u * 4u));
  let high = bytesOf(wordAt(at + 16u + (e & 31u)) >> (e / 32u)) & vec4u(1u);
  return vec4f(low + high * 16u);`,
    scale: PAIRS_SCALE,
  },
}
