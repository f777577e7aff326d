import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { cpu, mul, neg, rng, wasm } from '@weftjs/tensor'
import { type CodecSuite, checkCodec, factories, suite } from '@weftjs/testkit'
import { describe, expect } from 'vitest'

/** files of src that are no method */
const HELPERS = ['half', 'quantize']
/** what a codec is tried with, and what it claims */
const CLAIMS: Readonly<Record<string, readonly (CodecSuite & { options?: object; error: number })[]>> = {
  nf4: [
    { bits: 4.5, error: 0.11 },
    { options: { block: 128 }, bits: 4.25, error: 0.12 },
    { options: { block: 32 }, bits: 5, error: 0.1 },
    // 4 + 8/64 + 32/(64·256), and the mean of the scales
    { options: { double: true }, bits: 4.127 + 32 / 65536, error: 0.11, again: 0.02 },
  ],
  fp4: [
    { bits: 4.5, error: 0.15 },
    { options: { double: true }, bits: 4.127 + 32 / 65536, error: 0.15, again: 0.02 },
  ],
  bf16: [{ bits: 16, error: 0.003 }],
  f16: [{ bits: 16, error: 0.0005 }],
  int8: [{ bits: 8 + 32 / 256, error: 0.01 }],
  // the map ends at 1 but at -0.993, so a block's largest number may shrink each time
  dynamic8: [{ bits: 8.125, error: 0.03, again: 0.01 }],
}

const norm = (v: ArrayLike<number>): number => Math.hypot(...Array.from(v))

for (const { name, factory } of factories(import.meta.glob('../src/*.ts', { eager: true }), HELPERS))
  describe.each([
    ['cpu', cpu],
    ['wasm', wasm],
  ])(`${name} on %s`, (_, backend) => {
    const claims = CLAIMS[name]
    if (!claims) throw new Error(`${name}: say in CLAIMS what it is tried with, its bits and its error`)
    for (const { options = {}, ...claim } of claims) {
      const codec = factory(options) as Codec
      if (!codec.layout) throw new Error(`${name}: give it a layout, which files and bit counts are held against`)
      const through = (w: Tensor): Float32Array =>
        codec.decode(codec.encode(w as Tensor2D), w.shape as [number, number]).dataSync() as Float32Array
      const gap = (a: Float32Array, b: Float32Array): number => norm(a.map((x, i) => x - b[i]!)) / norm(b)
      suite(
        JSON.stringify(options),
        [
          ...checkCodec(codec, claim),
          {
            name: 'scales with the matrix, and turns with its sign within the error of each',
            run: () => {
              const w = rng(5).normal([16, 128])
              const once = through(w)
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
              ).toBeLessThan(2 * claim.error)
            },
          },
        ],
        { backend },
      )
    }
  })
