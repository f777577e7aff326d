import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { abs, cast, div, max, maximum, mul, round } from '@weftjs/tensor'

/** 8 bits a number and one scale a row: the plainest codec there is, to try a method on a packed base. */
export const toyCodec = (): Codec<{ q: Tensor; scale: Tensor }> => ({
  name: 'toy',
  encode: (w) => {
    const scale = maximum(div(max(abs(w), 1, true), 127), 1e-30) // [out, 1]
    return { q: cast(round(div(w, scale)), 'int32'), scale }
  },
  decode: ({ q, scale }) => mul(cast(q, 'float32'), scale) as Tensor2D,
})
