import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { cpu, mul, neg, rng, wasm } from '@weftjs/tensor'
import { type CodecSuite, checkCodec, factories, suite } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { binary, nf4 } from '../src/index.ts'

/** files of src that are no method */
const HELPERS = ['half', 'quantize']
/** rows that groups of 64 fill, and of 128 */
const WHOLE = [
  [64, 64],
  [16, 128],
  [5, 192],
  [1, 64],
] as const
const WIDE = [
  [16, 128],
  [3, 384],
] as const
/** rows of whole blocks of 256 */
const SUPER = [
  [16, 256],
  [3, 512],
  [1, 256],
] as const
type Claim = CodecSuite & { options?: object; error: number; scales?: number }
/** what a codec is tried with, and what it claims */
const CLAIMS: Readonly<Record<string, readonly Claim[]>> = {
  nf4: [
    { bits: 4.5, error: 0.11 },
    { options: { block: 128 }, bits: 4.25, error: 0.12 },
    { options: { block: 32 }, bits: 5, error: 0.1 },
    // 4 + 8/64 + 32/(64·256), and the mean of the scales
    { options: { double: true }, bits: 4.127 + 32 / 65536, error: 0.11, again: 0.02 },
  ],
  // k-means on what was coded finds other books, so a second time is as far off as the first; the books weigh in 256 × 256
  aqlm: [
    {
      options: { codebooks: 2, bits: 4, group: 4, rounds: 2 },
      bits: 2 + (2 * 16 * 4 * 16) / 65536 + 32 / 256,
      error: 0.4,
      again: 0.5,
      shapes: [
        [64, 64],
        [16, 128],
        [5, 8],
        [1, 64],
      ],
    },
    {
      options: { codebooks: 1, bits: 5, group: 4, outGroup: 2, rounds: 1, beam: 2 },
      bits: 5 / 8 + (32 * 8 * 16) / 65536 + 32 / 512,
      error: 0.85,
      again: 1.5,
      shapes: [
        [64, 64],
        [16, 128],
        [6, 20],
      ],
    },
  ],
  fp4: [
    { bits: 4.5, error: 0.15 },
    { options: { double: true }, bits: 4.127 + 32 / 65536, error: 0.15, again: 0.02 },
  ],
  // errors: the range of a group of 64 is about 4.8, its step a (2^bits − 1)th of that, the error a √12th of the step
  affine: [
    { bits: 4 + 36 / 64, error: 0.11, shapes: WHOLE },
    { options: { symmetric: true, group: 32 }, bits: 5, error: 0.11, shapes: WHOLE },
    { options: { bits: 8, group: 128 }, bits: 8 + 40 / 128, error: 0.01, shapes: WIDE },
    { options: { bits: 3, group: -1 }, bits: 3 + 35 / 256, error: 0.25 },
    { options: { bits: 2, group: 16, symmetric: true }, bits: 4, error: 0.5, shapes: WHOLE },
    { options: { floatZero: true }, bits: 5, error: 0.11, shapes: WHOLE },
    { options: { bits: 3, group: 32, floatZero: true }, bits: 5, error: 0.22, shapes: WHOLE },
  ],
  int4: [{ bits: 4 + 36 / 64, error: 0.11, shapes: WHOLE }],
  int3: [{ bits: 3 + 35 / 64, error: 0.22, shapes: WHOLE }],
  int2: [{ bits: 2 + 34 / 64, error: 0.5, shapes: WHOLE }],
  // of a symmetric grid the lowest value is further out than the largest magnitude, so a second time the steps are wider
  gptq: [
    { bits: 4 + 32 / 128, error: 0.12, again: 0.1, shapes: WIDE },
    {
      options: { bits: 4, group: 64, symmetric: false, actOrder: true },
      bits: 4.5625 + 64 / 256,
      error: 0.11,
      shapes: WHOLE,
    },
    { options: { bits: 3, group: -1, symmetric: false }, bits: 3 + 35 / 256, error: 0.25 },
    { options: { bits: 2, group: 16, symmetric: false }, bits: 2 + 34 / 16, error: 0.5, shapes: WHOLE },
    {
      options: { bits: 8, group: 32, actOrder: true, staticGroups: true },
      bits: 9,
      error: 0.01,
      again: 0.01,
      shapes: WHOLE,
    },
  ],
  // the shrinkage has a size of its own: of a scaled matrix the zero points are others
  hqq: [
    { bits: 4.5, error: 0.1, again: 0.1, scales: 0.1, shapes: WHOLE },
    { options: { optimize: false, roundZero: false, dtype: 'F32' }, bits: 5, error: 0.11, shapes: WHOLE },
    { options: { bits: 3, group: 128 }, bits: 3.25, error: 0.25, again: 0.2, scales: 0.2, shapes: WIDE },
    { options: { bits: 2, group: 16, axis: 0 }, bits: 4, error: 0.36, again: 0.3, scales: 0.3, shapes: WHOLE },
  ],
  // scales that were rounded lie a little lower the second time
  gguf: [
    { options: { type: 'Q8_0' }, bits: 8.5, error: 0.006, shapes: WHOLE },
    { options: { type: 'Q4_0' }, bits: 4.5, error: 0.095, shapes: WHOLE },
    { options: { type: 'Q4_1' }, bits: 5, error: 0.09, shapes: WHOLE },
    { options: { type: 'Q5_0' }, bits: 5.5, error: 0.05, shapes: WHOLE },
    { options: { type: 'Q5_1' }, bits: 6, error: 0.045, shapes: WHOLE },
    { options: { type: 'IQ4_NL' }, bits: 4.5, error: 0.085, again: 0.1, shapes: WHOLE },
    { options: { type: 'IQ4_XS' }, bits: 4.25, error: 0.085, again: 0.1, shapes: SUPER },
    { options: { type: 'Q2_K' }, bits: 2.625, error: 0.33, again: 0.3, shapes: SUPER },
    { options: { type: 'Q3_K' }, bits: 3.4375, error: 0.17, again: 0.3, shapes: SUPER },
    { options: { type: 'Q4_K' }, bits: 4.5, error: 0.08, again: 0.1, shapes: SUPER },
    { options: { type: 'Q5_K' }, bits: 5.5, error: 0.04, again: 0.05, shapes: SUPER },
    { options: { type: 'Q6_K' }, bits: 6.5625, error: 0.02, again: 0.02, shapes: SUPER },
    // one scale for 256, their largest: of such numbers few are not 0
    { options: { type: 'TQ2_0' }, bits: 2.0625, error: 0.9, shapes: SUPER },
    { options: { type: 'MXFP4' }, bits: 4.25, error: 0.125, shapes: WHOLE },
  ],
  awq: [
    { bits: 4 + 20 / 128, error: 0.12, shapes: WIDE },
    { options: { group: 32, dtype: 'F32' }, bits: 4 + 36 / 32, error: 0.1, shapes: WHOLE },
    { options: { group: -1, dtype: 'BF16' }, bits: 4 + 20 / 256, error: 0.12, again: 0.01 },
  ],
  bf16: [{ bits: 16, error: 0.003 }],
  f16: [{ bits: 16, error: 0.0005 }],
  int8: [
    { bits: 8 + 32 / 256, error: 0.01 },
    { options: { per: 'tensor' }, bits: 8 + 32 / 65536, error: 0.012 },
    { options: { per: 'group', group: 32 }, bits: 9, error: 0.01, shapes: WHOLE },
  ],
  // the map ends at 1 but at -0.993, so a block's largest number may shrink each time
  // what a share k of N(0, 1) and one magnitude leave: √(1 − k·m²), m its mean, with room for rows of 64
  compeft: [
    { options: { keep: 0.1 }, bits: 0.585, error: 0.85 },
    { options: { keep: 0.5 }, bits: 1.51, error: 0.55 },
    { options: { keep: 0.1, coding: 'masks' }, bits: 2 + 128 / 65536, error: 0.85 },
  ],
  dynamic8: [{ bits: 8.125, error: 0.03, again: 0.01 }],
  // ±1 stands at one end only, and between 0.66 and 1 there is one level
  state4: [
    { bits: 4.25, error: 0.3, again: 0.5 },
    { options: { block: 32 }, bits: 5, error: 0.3, again: 0.5 },
    { options: { scale: 'rank1' }, bits: 4 + 64 / 256, error: 0.3, again: 0.5 },
  ],
  // 3 bits of mantissa: steps of an 8th to a 16th, evenly spread within; 2 bits: twice that
  fp8: [
    { bits: 8 + 32 / 256, error: 0.03 },
    { options: { format: 'e5m2', per: 'tensor' }, bits: 8 + 32 / 65536, error: 0.06 },
    { options: { per: 'block', tile: [4, 32] }, bits: 8 + 32 / 128, error: 0.03 },
  ],
  // no column is kept without outliers, and in N(0, 1) none is 6 times the mean; half of them where that is 2.5
  'llm-int8': [
    { bits: 8 + 32 / 256, error: 0.01 },
    { options: { threshold: 3.2 }, bits: 16, error: 0.01 },
  ],
  // 32 bits for each that is kept apart, and 32 for a row; what the rest is, once its largest are apart, may change when it is coded anew
  outliers: [
    { bits: 4 + 36 / 64 + 0.005 * 32 + 33 / 256, error: 0.1, again: 0.1, shapes: WHOLE },
    {
      options: { share: 0.05, of: binary() },
      bits: 1 + 32 / 256 + 0.05 * 32 + 33 / 256,
      error: 0.55,
      again: 1,
      shapes: WHOLE,
    },
    { options: { threshold: 3, by: 'error', of: nf4() }, bits: 5.2, error: 0.11, again: 0.1 },
  ],
  // √(1 − (E|w|)²) for two levels; three: 1 − 2γE[|w|; |w| > γ/2] + γ²P, γ = E|w|. Coded again, mean|w| is less by the share of zeros
  binary: [
    { bits: 1 + 32 / 256, error: 0.68 },
    { options: { per: 'group', group: 32 }, bits: 2, error: 0.66, shapes: WHOLE },
  ],
  ternary: [
    { bits: 2 + 32 / 65536, error: 0.56, again: 0.4 },
    { options: { per: 'row', pack: 'base3', fit: true }, bits: 1.6 + 32 / 256 + 32 / 65536, error: 0.5 },
    { options: { per: 'group', group: 32, fit: true }, bits: 3, error: 0.5, shapes: WHOLE },
  ],
}

const norm = (v: ArrayLike<number>): number => Math.hypot(...Array.from(v))

for (const { name, factory } of factories(import.meta.glob('../src/*.ts', { eager: true }), HELPERS))
  describe.each([
    ['cpu', cpu],
    ['wasm', wasm],
  ])(`${name} on %s`, (_, backend) => {
    const claims = CLAIMS[name] ?? []
    if (!claims.length)
      it('is listed', () => {
        throw new Error(`${name}: say in CLAIMS what it is tried with, its bits and its error`)
      })
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
              const w = rng(5).normal(claim.shapes === SUPER ? [16, 256] : [16, 128])
              const once = through(w)
              expect(
                gap(
                  through(mul(w, 4)),
                  once.map((x) => 4 * x),
                ),
              ).toBeLessThan(claim.scales ?? 1e-6)
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
