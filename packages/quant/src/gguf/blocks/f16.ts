import { half, putHalf } from '../numbers.ts'
import { type Block, ggmlTypes } from '../types.ts'

/** IEEE 754's binary16, at most ±65504 */
export const f16: Block = {
  ...ggmlTypes.F16,
  quantize: (x, from, out, at) => void putHalf(out, at, x[from]!),
  dequantize: (bytes, at, out, to) => {
    out[to] = half(bytes, at)
  },
}
