import { half, putPairs } from '../numbers.ts'
import { ternaryCodes } from '../ternary.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(256)

/** −d, 0 or d, four to a byte */
export const tq2_0: Block = {
  ...ggmlTypes.TQ2_0,
  quantize: (x, from, out, at) => {
    ternaryCodes(x, from, codes, out, at + 64)
    putPairs(codes, out, at)
  },
  dequantize: (bytes, at, out, to) => {
    const d = half(bytes, at + 64)
    for (let i = 0; i < 256; i++)
      out[to + i] = d * (((bytes[at + 32 * (i >> 7) + (i & 31)]! >> ((i >> 4) & 6)) & 3) - 1)
  },
  shader: {
    codes: `
  let w = wordAt(at + e / 128u * 32u + (e & 31u)) >> (e / 32u % 4u * 2u);
  return vec4f(bytesOf(w) & vec4u(3u)) - vec4f(1.0);`,
    scale: 'return vec2f(halfAt(at + 64u), 0.0);',
  },
}
