import { factories, testCodec } from '@weftjs/testkit'

/** files of src that are no codec */
const HELPERS = ['half', 'quantize']
/** rows that any codec's groups fill */
const SHAPES = [
  [16, 256],
  [3, 512],
  [1, 256],
] as const

// what any codec must do; its own bits and error are in contract.test.ts. The signs of a tenth of N(0, 1) leave 0.76
for (const { factory } of factories(import.meta.glob('../src/*.ts', { eager: true }), HELPERS))
  testCodec(factory(), { bits: 16, error: 0.8, again: 0.3, shapes: SHAPES })
