import type { Codec, Tensor2D } from '@weftjs/spec'
import { tensor } from '@weftjs/tensor'
import { type GptqOptions, gptq } from '../src/index.ts'
import type { Case } from './products.ts'

/** as if the inputs had been seen, each of another size: an order of its own, where there is one */
const calibrated = (options: GptqOptions): Codec<any> => {
  const codec = gptq(options)
  const moment = (n: number): Tensor2D =>
    tensor(
      Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) ? 0.1 : 1 + (((i / (n + 1)) * 37) % n))),
      [n, n],
    )
  return {
    ...codec,
    encode: (w) => {
      const seen = moment(w.shape[1])
      try {
        return codec.encode(w, { rows: 1, batches: 1, get: () => seen })
      } finally {
        seen.dispose()
      }
    },
  }
}

/** formats, and what they are tried with: a thick and a thin x, rows that words and fours do not divide */
export const PRODUCTS: readonly (readonly [string, Codec<any>, readonly Case[]])[] = [
  [
    '4 bits in order',
    calibrated({ group: 32 }),
    [
      { rows: [2, 5], shape: [36, 128] },
      { rows: [1, 1], shape: [35, 96] },
    ],
  ],
  [
    '4 bits in an order of their own',
    calibrated({ group: 32, actOrder: true, symmetric: false }),
    [
      { rows: [2, 5], shape: [36, 128] },
      { rows: [1, 1], shape: [101, 512] },
    ],
  ],
  ['3 bits', calibrated({ bits: 3, group: 11, actOrder: true, symmetric: false }), [{ rows: [7], shape: [35, 33] }]],
  ['2 bits', calibrated({ bits: 2, group: 16, actOrder: true }), [{ rows: [3], shape: [36, 64] }]],
  ['8 bits', calibrated({ bits: 8, group: -1 }), [{ rows: [3], shape: [36, 132] }]],
]
