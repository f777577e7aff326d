import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { cpu, mul, neg, rng, wasm } from '@weftjs/tensor'
import { beforeAll, describe, expect, it } from 'vitest'
import { type CodecSuite, checkCodec } from '../../testkit/src/codec.ts'
import { dynamic8, fp4, int8, nf4 } from '../src/index.ts'

const suites: [string, Codec, CodecSuite][] = [
  ['nf4', nf4(), { bits: 4.5, error: 0.11 }],
  ['nf4 in blocks of 128', nf4({ block: 128 }), { bits: 4.25, error: 0.12 }],
  // 4 + 8/64 + 32/(64·256), and the mean of the scales
  ['nf4 double', nf4({ double: true }), { bits: 4.127 + 32 / 65536, error: 0.11, again: 0.02 }],
  ['fp4', fp4(), { bits: 4.5, error: 0.15 }],
  ['int8', int8(), { bits: 8 + 32 / 256, error: 0.01 }],
  // the map ends at 1 but at -0.993, so a block's largest number may shrink each time
  ['dynamic8', dynamic8(), { bits: 8.125, error: 0.03, again: 0.01 }],
]

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('on %s', (_, start) => {
  beforeAll(async () => {
    await start()
  })
  describe.each(suites)('%s', (_name, codec, suite) => {
    // levels of NF4 differ between the signs, so that single numbers of -w and w may land a whole level apart
    const wanted = checkCodec(codec, suite).filter(({ name }) => !name.startsWith('the sign and order'))
    for (const { name, run } of wanted) it(name, run)

    it('scales with the matrix, and turns with its sign within the error of each', () => {
      const w = rng(5).normal([16, 128]) as Tensor2D
      const through = (w: Tensor): Float32Array =>
        codec.decode(codec.encode(w as Tensor2D), [16, 128]).dataSync() as Float32Array
      const once = through(w)
      const norm = (v: Float32Array): number => Math.hypot(...v)
      const gap = (a: Float32Array, b: Float32Array): number => norm(a.map((x, i) => x - b[i]!)) / norm(b)
      expect(
        gap(
          through(mul(w, 4)),
          once.map((x) => 4 * x),
        ),
      ).toBeLessThan(1e-6)
      expect(
        gap(
          through(neg(w)),
          once.map((x) => -x),
        ),
      ).toBeLessThan(2 * suite.error!)
    })
  })
})
