import { evenSigns, gridded, grids, word } from '../grids.ts'
import { half } from '../numbers.ts'
import type { Block } from '../types.ts'

/** d·(s + ½)/4·±point of 8 numbers, one of 256 points; of each 32 a word has signs in 4 times 7 bits and s in 4 */
export const iq2_xxs: Block = gridded('IQ2_XXS', {
  grid: grids.IQ2_XXS,
  point: (bytes, at, k) => bytes[at + 2 + 8 * (k >> 2) + (k & 3)]!,
  signs: (bytes, at, i) => evenSigns((word(bytes, at + 6 + 8 * (i >> 2)) >> (7 * (i & 3))) & 127),
  scale: (bytes, at, i) => (half(bytes, at) * (0.5 + (bytes[at + 9 + 8 * (i >> 2)]! >> 4))) / 4,
  wgsl: {
    point: 'return byteAt(at + 2u + 8u * (k / 4u) + k % 4u);',
    signs: 'evenSigns((wordAt(at + 6u + 8u * (i / 4u)) >> (7u * (i % 4u))) & 127u)',
    scale: 'return vec2f(halfAt(at) * (0.5 + f32(byteAt(at + 9u + 8u * (i / 4u)) >> 4u)) * 0.25, 0.0);',
  },
})
