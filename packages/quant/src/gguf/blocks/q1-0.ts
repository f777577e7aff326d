import { half } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'

/** d where the bit is set, −d elsewhere */
export const q1_0: Block = {
  ...ggmlTypes.Q1_0,
  dequantize: (bytes, at, out, to) => {
    const d = half(bytes, at)
    for (let i = 0; i < 128; i++) out[to + i] = (bytes[at + 2 + (i >> 3)]! >> (i & 7)) & 1 ? d : -d
  },
  shader: {
    codes: `
  let w = byteAt(at + 2u + e / 8u) >> (e & 4u);
  return vec4f((vec4u(w, w >> 1u, w >> 2u, w >> 3u) & vec4u(1u)) * 2u) - vec4f(1.0);`,
    scale: 'return vec2f(halfAt(at), 0.0);',
  },
}
