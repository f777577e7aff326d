import { levelNibbles, putNibbles } from '../numbers.ts'
import { E2M1, E2M1_HEAD, nearestE2m1 } from '../small.ts'
import { type Block, ggmlTypes } from '../types.ts'

const codes = new Uint8Array(32)
/** half of 2^(e − 127) */
const scaleOf = (e: number): number => 2 ** (e - 128)

/** 4-bit floats times a power of 2 of 8 bits  —  OCP's microscaling formats 1.0 */
export const mxfp4: Block = {
  ...ggmlTypes.MXFP4,
  quantize: (x, from, out, at) => {
    let most = 0
    for (let i = from; i < from + 32; i++) most = Math.max(most, Math.abs(x[i]!))
    const e = most > 0 ? Math.max(0, Math.min(254, Math.floor(Math.log2(most)) + 125)) : 0
    out[at] = e
    for (let i = 0; i < 32; i++) codes[i] = nearestE2m1(x[from + i]!, scaleOf(e))
    putNibbles(codes, out, at + 1)
  },
  dequantize: (bytes, at, out, to) => levelNibbles(bytes, at + 1, 16, E2M1, scaleOf(bytes[at]!), out, to),
  shader: {
    head: E2M1_HEAD,
    codes: 'return smallOf(nibblesOf(wordAt(at + 1u + (e & 15u)) >> (e / 16u * 4u)));',
    scale: `
  let x = byteAt(at);
  return vec2f(bitcast<f32>(select((x - 1u) << 23u, 0x200000u << x, x < 2u)), 0.0);`,
  },
}
