import { awayFromZero, f, half, putHalf } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'

/** d·q, q of 8 bits */
export const q8_0: Block = {
  ...ggmlTypes.Q8_0,
  quantize: (x, from, out, at) => {
    let most = 0
    for (let i = from; i < from + 32; i++) most = Math.max(most, Math.abs(x[i]!))
    const d = f(most / 127)
    const inverse = d ? f(1 / d) : 0
    putHalf(out, at, d)
    for (let i = 0; i < 32; i++) out[at + 2 + i] = awayFromZero(f(x[from + i]! * inverse))
  },
  dequantize: (bytes, at, out, to) => {
    const d = half(bytes, at)
    for (let i = 0; i < 32; i++) out[to + i] = ((bytes[at + 2 + i]! << 24) >> 24) * d
  },
  shader: {
    codes: 'return signedOf(wordAt(at + 2u + e));',
    scale: 'return vec2f(halfAt(at), 0.0);',
  },
}
