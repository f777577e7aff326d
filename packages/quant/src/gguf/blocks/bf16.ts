import { BF16 } from '../../kernels/half.ts'
import { type Block, ggmlTypes } from '../types.ts'

/** the upper half of a float32, rounded */
export const bf16: Block = {
  ...ggmlTypes.BF16,
  quantize: (x, from, out, at) => {
    const bits = BF16.to(x[from]!)
    out[at] = bits & 255
    out[at + 1] = bits >> 8
  },
  dequantize: (bytes, at, out, to) => {
    out[to] = BF16.from(bytes[at]! | (bytes[at + 1]! << 8))
  },
}
