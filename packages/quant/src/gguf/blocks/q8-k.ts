import { type Block, ggmlTypes } from '../types.ts'

/** d·q, d a float32, q of 8 bits; sums of 16 stand behind: how ggml keeps what multiplies a matrix of K types */
export const q8_k: Block = {
  ...ggmlTypes.Q8_K,
  dequantize: (bytes, at, out, to) => {
    const d = new DataView(bytes.buffer, bytes.byteOffset).getFloat32(at, true)
    for (let i = 0; i < 256; i++) out[to + i] = ((bytes[at + 4 + i]! << 24) >> 24) * d
  },
  shader: { codes: 'return signedOf(wordAt(at + 4u + e));', scale: 'return vec2f(bitcast<f32>(wordAt(at)), 0.0);' },
}
