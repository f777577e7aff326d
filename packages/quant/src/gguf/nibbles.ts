import { fitMin, fitScale, peakOf, weigh } from './fit.ts'
import { f, half, putHalf, putNibbles } from './numbers.ts'
import { type Block, type BlockShader, ggmlTypes } from './types.ts'

/** Blocks of 32 numbers of 4 or 5 bits: the low four as nibbles, the fifth bits as a word before them. */

const codes = new Uint8Array(32)
const weights = new Float32Array(32)
const min = new Float32Array(1)

const putCodes = (out: Uint8Array, at: number, bits: 4 | 5): void => {
  if (bits === 5) {
    for (let byte = 0; byte < 4; byte++) {
      let high = 0
      for (let i = 0; i < 8; i++) high |= ((codes[8 * byte + i]! >> 4) & 1) << i
      out[at + byte] = high
    }
  }
  putNibbles(codes, out, at + (bits === 5 ? 4 : 0))
}

const eachCode = (
  bytes: Uint8Array,
  at: number,
  bits: 4 | 5,
  value: (q: number) => number,
  out: Float32Array,
  to: number,
): void => {
  const low = at + (bits === 5 ? 4 : 0)
  for (let i = 0; i < 32; i++) {
    const byte = bytes[low + (i & 15)]!
    const high = bits === 5 ? ((bytes[at + (i >> 3)]! >> (i & 7)) & 1) << 4 : 0
    out[to + i] = value((i < 16 ? byte & 15 : byte >> 4) | high)
  }
}

const shader = (bits: 4 | 5, head: number, scale: string): BlockShader => ({
  codes: `
  let w = nibblesOf(wordAt(at + ${head + (bits === 5 ? 4 : 0)}u + (e & 15u)) >> (e / 16u * 4u));
  ${bits === 5 ? `let h = (wordAt(at + ${head}u) >> e) & 15u;` : ''}
  return vec4f(w${bits === 5 ? ' + (vec4u(h << 4u, h << 3u, h << 2u, h << 1u) & vec4u(16u))' : ''});`,
  scale,
})

/** d·(q − 2^(bits−1)) */
export const symmetric = (type: 'Q4_0' | 'Q5_0', bits: 4 | 5): Block => {
  const middle = 2 ** (bits - 1)
  return {
    ...ggmlTypes[type],
    quantize: (x, from, out, at, importance) => {
      if (importance) {
        weigh(x, from, 32, importance.columns, importance.at, importance.power, weights)
        putHalf(out, at, fitScale(x, from, 32, middle, weights, codes, 0))
      } else {
        const peak = peakOf(x, from, 32, 0)
        const d = f((x[peak] ?? 0) / -middle)
        const inverse = d ? f(1 / d) : 0
        putHalf(out, at, d)
        for (let i = 0; i < 32; i++) {
          const q = Math.trunc(f(f(x[from + i]! * inverse) + f(middle + 0.5)))
          codes[i] = Math.min(q, 2 * middle - 1)
        }
      }
      putCodes(out, at + 2, bits)
    },
    dequantize: (bytes, at, out, to) => {
      const d = half(bytes, at)
      eachCode(bytes, at + 2, bits, (q) => (q - middle) * d, out, to)
    },
    shader: shader(bits, 2, `let d = halfAt(at); return vec2f(d, -${middle}.0 * d);`),
  }
}

/** d·q + m */
export const affine = (type: 'Q4_1' | 'Q5_1', bits: 4 | 5): Block => {
  const most = 2 ** bits - 1
  const search = { most, start: -0.9, delta: 0.05, steps: 36 }
  return {
    ...ggmlTypes[type],
    quantize: (x, from, out, at, importance) => {
      if (importance) {
        weigh(x, from, 32, importance.columns, importance.at, importance.power, weights)
        putHalf(out, at, fitMin(x, from, 32, search, weights, codes, 0, min, 0))
        putHalf(out, at + 2, -min[0]!)
      } else {
        let [least, largest] = [x[from]!, x[from]!]
        for (let i = 1; i < 32; i++) {
          const v = x[from + i]!
          if (v < least) least = v
          if (v > largest) largest = v
        }
        const d = f(f(largest - least) / most)
        const inverse = d ? f(1 / d) : 0
        putHalf(out, at, d)
        putHalf(out, at + 2, least)
        for (let i = 0; i < 32; i++) {
          const q = Math.trunc(f(f(f(x[from + i]! - least) * inverse) + 0.5))
          codes[i] = Math.min(q, most)
        }
      }
      putCodes(out, at + 4, bits)
    },
    dequantize: (bytes, at, out, to) => {
      const [d, m] = [half(bytes, at), half(bytes, at + 2)]
      eachCode(bytes, at + 4, bits, (q) => f(q * d) + m, out, to)
    },
    shader: shader(bits, 4, 'return vec2f(halfAt(at), halfAt(at + 2u));'),
  }
}
