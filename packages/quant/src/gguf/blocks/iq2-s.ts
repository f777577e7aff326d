import { gridded, grids, nibble } from '../grids.ts'
import { half } from '../numbers.ts'
import type { Block } from '../types.ts'

/** d·(s + ½)/4·±point of 8 numbers: 10 bits of one of 1024 points, 8 of signs, and 4 of s for each 16 numbers */
export const iq2_s: Block = gridded('IQ2_S', {
  grid: grids.IQ2_S,
  point: (bytes, at, k) => bytes[at + 2 + k]! | (((bytes[at + 66 + (k >> 2)]! >> (2 * (k & 3))) & 3) << 8),
  signs: (bytes, at, i) => bytes[at + 34 + i]!,
  scale: (bytes, at, i) => (half(bytes, at) * (0.5 + nibble(bytes, at + 74, i >> 1))) / 4,
  wgsl: {
    point: 'return byteAt(at + 2u + k) | (((byteAt(at + 66u + k / 4u) >> (2u * (k % 4u))) & 3u) << 8u);',
    signs: 'byteAt(at + 34u + i)',
    scale: `
  let s = (byteAt(at + 74u + i / 4u) >> (4u * (i / 2u % 2u))) & 15u;
  return vec2f(halfAt(at) * (0.5 + f32(s)) * 0.25, 0.0);`,
  },
})
