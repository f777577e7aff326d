import { F16 } from '../../kernels/half.ts'
import { gridded, grids, nibble } from '../grids.ts'
import type { Block } from '../types.ts'

/** four words of 16 bits: 4 times 3 of s, and a quarter of d, the lowest first */
const bits = (bytes: Uint8Array, at: number, w: number): number =>
  bytes[at + 48 + 2 * w]! | (bytes[at + 49 + 2 * w]! << 8)
const scaleOf = (bytes: Uint8Array, at: number): number => {
  let d = 0
  for (let w = 0; w < 4; w++) d |= (bits(bytes, at, w) >> 12) << (4 * w)
  return F16.from(d)
}

/** as IQ1_S, with s for each 16 numbers, a sign of the eighth for each 8, and d in the scales' upper bits */
export const iq1_m: Block = gridded('IQ1_M', {
  grid: grids.IQ1_S,
  point: (bytes, at, k) => bytes[at + k]! | ((nibble(bytes, at + 32, k) & 7) << 8),
  shift: (bytes, at, i) => (nibble(bytes, at + 32, i) & 8 ? -1 : 1),
  scale: (bytes, at, i) => (scaleOf(bytes, at) * (2 * ((bits(bytes, at, i >> 3) >> (3 * ((i >> 1) & 3))) & 7) + 1)) / 8,
  wgsl: {
    point: 'return byteAt(at + k) | (((byteAt(at + 32u + k / 2u) >> (4u * (k % 2u))) & 7u) << 8u);',
    shift: '1.0 - f32((byteAt(at + 32u + i / 2u) >> (4u * (i % 2u) + 3u)) & 1u) * 2.0',
    scale: `
  let low = wordAt(at + 48u);
  let high = wordAt(at + 52u);
  let d = floatOf(((low >> 12u) & 15u) | ((low >> 24u) & 0xf0u) | ((high >> 4u) & 0xf00u) | ((high >> 16u) & 0xf000u));
  let s = (wordAt(at + 48u + 2u * (i / 8u)) >> (3u * (i / 2u % 4u))) & 7u;
  return vec2f(d * f32(2u * s + 1u) * 0.125, 0.0);`,
  },
})
