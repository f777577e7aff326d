import { half } from '../numbers.ts'
import { ternaryCodes } from '../ternary.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(256)
/** where the numbers of a byte are: first byte, bytes, first number, numbers a byte, which lie `bytes` apart */
const PARTS = [
  [0, 32, 0, 5],
  [32, 16, 160, 5],
  [48, 4, 240, 4],
] as const

/** −d, 0 or d, five to a byte as the first digits of a fraction in base 3 */
export const tq1_0: Block = {
  ...ggmlTypes.TQ1_0,
  quantize: (x, from, out, at) => {
    ternaryCodes(x, from, codes, out, at + 52)
    for (const [first, bytes, place, each] of PARTS)
      for (let i = 0; i < bytes; i++) {
        let digits = 0
        for (let j = 0; j < 5; j++) digits = 3 * digits + (j < each ? codes[place + bytes * j + i]! : 0)
        out[at + first + i] = Math.floor((256 * digits + 242) / 243)
      }
  },
  dequantize: (bytes, at, out, to) => {
    const d = half(bytes, at + 52)
    for (const [first, count, place, each] of PARTS)
      for (let j = 0, power = 1; j < each; j++, power *= 3)
        for (let i = 0; i < count; i++) {
          const digit = (((bytes[at + first + i]! * power) & 255) * 3) >> 8
          out[to + place + count * j + i] = d * (digit - 1)
        }
  },
  shader: {
    codes: `
  let part = u32(e >= 160u) + u32(e >= 240u);
  let bytes = select(select(32u, 16u, part == 1u), 4u, part == 2u);
  let place = e - select(select(0u, 160u, part == 1u), 240u, part == 2u);
  let first = select(select(0u, 32u, part == 1u), 48u, part == 2u);
  let power = array<u32, 5>(1u, 3u, 9u, 27u, 81u)[place / bytes];
  let w = (bytesOf(wordAt(at + first + place % bytes)) * power) & vec4u(255u);
  return vec4f((w * 3u) >> vec4u(8u)) - vec4f(1.0);`,
    scale: 'return vec2f(halfAt(at + 52u), 0.0);',
  },
}
