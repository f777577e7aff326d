import { evenSigns, gridded, grids, word } from '../grids.ts'
import { half } from '../numbers.ts'
import type { Block } from '../types.ts'

/** d·(s + ½)/2·±point of 4 numbers, one of 256 points; of each 32 a word has signs in 4 times 7 bits and s in 4 */
export const iq3_xxs: Block = gridded('IQ3_XXS', {
  grid: grids.IQ3_XXS,
  point: (bytes, at, k) => bytes[at + 2 + k]!,
  signs: (bytes, at, i) => evenSigns((word(bytes, at + 66 + 4 * (i >> 2)) >> (7 * (i & 3))) & 127),
  scale: (bytes, at, i) => (half(bytes, at) * (0.5 + (bytes[at + 69 + 4 * (i >> 2)]! >> 4))) / 2,
  wgsl: {
    point: 'return byteAt(at + 2u + k);',
    signs: 'evenSigns((wordAt(at + 66u + i / 4u * 4u) >> (7u * (i % 4u))) & 127u)',
    scale: 'return vec2f(halfAt(at) * (0.5 + f32(byteAt(at + 69u + i / 4u * 4u) >> 4u)) * 0.5, 0.0);',
  },
})
