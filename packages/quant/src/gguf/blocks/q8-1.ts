import { half } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'
import { q8_0 } from './q8-0.ts'

/** d·q, q of 8 bits; the sum of the numbers stands beside d: how ggml keeps what multiplies a matrix */
export const q8_1: Block = {
  ...ggmlTypes.Q8_1,
  dequantize: (bytes, at, out, to) => {
    const d = half(bytes, at)
    for (let i = 0; i < 32; i++) out[to + i] = ((bytes[at + 4 + i]! << 24) >> 24) * d
  },
  shader: { codes: 'return signedOf(wordAt(at + 4u + e));', scale: q8_0.shader!.scale },
}
