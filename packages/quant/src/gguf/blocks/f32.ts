import { type Block, ggmlTypes } from '../types.ts'

const float = new Float32Array(1)
const four = new Uint8Array(float.buffer)

/** float32 as it is */
export const f32: Block = {
  ...ggmlTypes.F32,
  quantize: (x, from, out, at) => {
    float[0] = x[from]!
    out.set(four, at)
  },
  dequantize: (bytes, at, out, to) => {
    for (let i = 0; i < 4; i++) four[i] = bytes[at + i]!
    out[to] = float[0]!
  },
}
