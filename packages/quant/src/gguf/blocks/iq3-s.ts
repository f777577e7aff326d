import { gridded, grids, nibble } from '../grids.ts'
import { half } from '../numbers.ts'
import type { Block } from '../types.ts'

/** d·(2s + 1)·±point of 4 numbers: 9 bits of one of 512 points, a sign each, and 4 bits of s for each 32 numbers */
export const iq3_s: Block = gridded('IQ3_S', {
  grid: grids.IQ3_S,
  point: (bytes, at, k) => bytes[at + 2 + k]! | (((bytes[at + 66 + (k >> 3)]! >> (k & 7)) & 1) << 8),
  signs: (bytes, at, i) => bytes[at + 74 + i]!,
  scale: (bytes, at, i) => half(bytes, at) * (1 + 2 * nibble(bytes, at + 106, i >> 2)),
  wgsl: {
    point: 'return byteAt(at + 2u + k) | (((byteAt(at + 66u + k / 8u) >> (k % 8u)) & 1u) << 8u);',
    signs: 'byteAt(at + 74u + i)',
    scale: `
  let s = (byteAt(at + 106u + i / 8u) >> (4u * (i / 4u % 2u))) & 15u;
  return vec2f(halfAt(at) * f32(1u + 2u * s), 0.0);`,
  },
})
