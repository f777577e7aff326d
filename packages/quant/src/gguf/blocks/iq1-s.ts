import { gridded, grids } from '../grids.ts'
import { half } from '../numbers.ts'
import type { Block } from '../types.ts'

/** bits of 32 numbers: 4 times 3 of a place in the grid, 3 of s, the sign of the eighth */
const bits = (bytes: Uint8Array, at: number, b: number): number =>
  bytes[at + 34 + 2 * b]! | (bytes[at + 35 + 2 * b]! << 8)

/** d·(2s + 1)·(point ± ⅛) of 8 numbers, each of which is −1, 0 or 1; s and the eighth's sign are those of 32 numbers */
export const iq1_s: Block = gridded('IQ1_S', {
  grid: grids.IQ1_S,
  point: (bytes, at, k) => bytes[at + 2 + k]! | (((bits(bytes, at, k >> 2) >> (3 * (k & 3))) & 7) << 8),
  shift: (bytes, at, i) => (bits(bytes, at, i >> 2) >> 15 ? -1 : 1),
  scale: (bytes, at, i) => (half(bytes, at) * (2 * ((bits(bytes, at, i >> 2) >> 12) & 7) + 1)) / 8,
  wgsl: {
    point: 'return byteAt(at + 2u + k) | (((wordAt(at + 34u + 2u * (k / 4u)) >> (3u * (k % 4u))) & 7u) << 8u);',
    shift: '1.0 - f32(byteAt(at + 35u + 2u * (i / 4u)) >> 7u) * 2.0',
    scale: `
  let s = (byteAt(at + 35u + 2u * (i / 4u)) >> 4u) & 7u;
  return vec2f(halfAt(at) * f32(2u * s + 1u) * 0.125, 0.0);`,
  },
})
