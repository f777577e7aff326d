import { levelNibbles } from '../numbers.ts'
import { E2M1, E2M1_HEAD } from '../small.ts'
import { type Block, ggmlTypes } from '../types.ts'

/** half of an 8-bit float without sign, 4 bits of exponent and 3 of fraction; 127, its NaN, stands for 0 */
const scaleOf = (bits: number): number => {
  const [e, m] = [(bits >> 3) & 15, bits & 7]
  if (bits === 127) return 0
  return e === 0 ? m * 2 ** -10 : (1 + m / 8) * 2 ** (e - 8)
}

/** 4-bit floats times an 8-bit float for each 16 numbers */
export const nvfp4: Block = {
  ...ggmlTypes.NVFP4,
  dequantize: (bytes, at, out, to) => {
    for (let s = 0; s < 4; s++) levelNibbles(bytes, at + 4 + 8 * s, 8, E2M1, scaleOf(bytes[at + s]!), out, to + 16 * s)
  },
  shader: {
    head: E2M1_HEAD,
    codes: 'return smallOf(nibblesOf(wordAt(at + 4u + e / 16u * 8u + (e & 7u)) >> (e / 8u % 2u * 4u)));',
    scale: `
  let x = byteAt(at + e / 16u);
  let large = bitcast<f32>((((x >> 3u) & 15u) + 119u) << 23u) * (1.0 + f32(x & 7u) / 8.0);
  let d = select(large, f32(x & 7u) / 1024.0, (x & 0x78u) == 0u);
  return vec2f(select(d, 0.0, x == 127u), 0.0);`,
  },
}
