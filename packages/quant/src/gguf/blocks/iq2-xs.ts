import { evenSigns, gridded, grids, nibble } from '../grids.ts'
import { half } from '../numbers.ts'
import type { Block } from '../types.ts'

/** d·(s + ½)/4·±point of 8 numbers: 9 bits of one of 512 points and 7 of signs, and 4 of s for each 16 numbers */
export const iq2_xs: Block = gridded('IQ2_XS', {
  grid: grids.IQ2_XS,
  point: (bytes, at, k) => bytes[at + 2 + 2 * k]! | ((bytes[at + 3 + 2 * k]! & 1) << 8),
  signs: (bytes, at, i) => evenSigns(bytes[at + 3 + 2 * i]! >> 1),
  scale: (bytes, at, i) => (half(bytes, at) * (0.5 + nibble(bytes, at + 66, i >> 1))) / 4,
  wgsl: {
    point: 'return byteAt(at + 2u + 2u * k) | ((byteAt(at + 3u + 2u * k) & 1u) << 8u);',
    signs: 'evenSigns(byteAt(at + 3u + 2u * i) >> 1u)',
    scale: `
  let s = (byteAt(at + 66u + i / 4u) >> (4u * (i / 2u % 2u))) & 15u;
  return vec2f(halfAt(at) * (0.5 + f32(s)) * 0.25, 0.0);`,
  },
})
