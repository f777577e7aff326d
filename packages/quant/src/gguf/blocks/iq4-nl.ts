import { fitLevels, LEVELS, LEVELS_HEAD, nearestLevel, twicePower } from '../levels.ts'
import { f, half, levelNibbles, putHalf, putNibbles } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(32)

/** d·level, one of 16 levels; quantized as ggml's row quantizer does, with 15 tries */
export const iq4_nl: Block = {
  ...ggmlTypes.IQ4_NL,
  quantize: (x, from, out, at, importance) => {
    const power = importance ? twicePower(x, from, 32) : 0
    const d = fitLevels(x, from, { power, importance }, importance?.at ?? 0)
    putHalf(out, at, d)
    const inverse = d ? f(1 / d) : 0
    for (let i = 0; i < 32; i++) codes[i] = nearestLevel(f(inverse * x[from + i]!))
    putNibbles(codes, out, at + 2)
  },
  dequantize: (bytes, at, out, to) => levelNibbles(bytes, at + 2, 16, LEVELS, half(bytes, at), out, to),
  shader: {
    head: LEVELS_HEAD,
    codes: 'return levelsOf(nibblesOf(wordAt(at + 2u + (e & 15u)) >> (e / 16u * 4u)));',
    scale: 'return vec2f(halfAt(at), 0.0);',
  },
}
