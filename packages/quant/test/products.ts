import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { dispose, gradients, kernels, memory, mul, rng, sum, tensor1d, tidy } from '@weftjs/tensor'
import { dense, packed } from '@weftjs/weight'
import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  affine,
  awq,
  bf16,
  binary,
  dynamic8,
  f16,
  fp4,
  fp8,
  hqq,
  int8,
  llmInt8,
  nf4,
  outliers,
  ternary,
} from '../src/index.ts'

export const CODECS = {
  nf4: nf4() as Codec,
  'nf4 in blocks of 32': nf4({ block: 32 }) as Codec,
  'nf4 double': nf4({ double: true, doubleBlock: 32 }) as Codec,
  fp4: fp4() as Codec,
  int8: int8() as Codec,
  bf16: bf16() as Codec,
  f16: f16() as Codec,
  dynamic8: dynamic8({ block: 50 }) as Codec,
  'int8 of a matrix': int8({ per: 'tensor' }) as Codec,
  'fp8 by rows': fp8() as Codec,
  'fp8 in tiles': fp8({ format: 'e5m2', per: 'block', tile: [8, 50] }) as Codec,
  'llm-int8': llmInt8({ threshold: 3 }) as Codec,
  outliers: outliers({ share: 0.02, of: affine({ group: -1 }) }) as Codec,
  'outliers of nf4': outliers({ share: 0.02, of: nf4() }) as Codec,
  binary: binary() as Codec,
  ternary: ternary() as Codec,
  'ternary, five to a byte': ternary({ per: 'row', pack: 'base3' }) as Codec,
  awq: awq({ group: -1 }) as Codec,
  'hqq of 4 bits': hqq({ group: -1, optimize: false }) as Codec,
  'hqq of 2 bits': hqq({ bits: 2, group: -1, optimize: false, dtype: 'F32' }) as Codec,
  'hqq of 4 bits by columns': hqq({ group: -1, axis: 0, optimize: false }) as Codec,
  'hqq of 3 bits by columns': hqq({ bits: 3, group: -1, axis: 0, optimize: false }) as Codec,
  'hqq of 1 bit by columns': hqq({ bits: 1, group: -1, axis: 0, optimize: false }) as Codec,
  'affine of 8 bits': affine({ bits: 8, group: -1 }) as Codec,
  'affine of 4 bits': affine({ bits: 4, group: -1 }) as Codec,
  'affine of 3 bits': affine({ bits: 3, group: -1 }) as Codec,
  'affine of 2 bits': affine({ bits: 2, group: 1, symmetric: true }) as Codec,
} as const
export interface Case {
  readonly rows: readonly number[]
  readonly shape: readonly [number, number]
}
const most = (v: Float32Array): number => v.reduce((a, x) => Math.max(a, Math.abs(x)), 0)

/**
 * Product, gradient of x and rows of a packed weight, against the reference; that cannot read codes on a GPU, where the
 * decoded matrix takes its place (which webgpu.test.ts compares with cpu's).
 */
export const compare = async (name: string, codec: Codec, { rows, shape: [out, width] }: Case): Promise<void> => {
  const gpu = name === 'webgpu'
  const before = memory().numTensors
  const results = (plain: boolean): Tensor[] =>
    tidy(() => {
      kernels.plain = false // the same codes on both sides
      const coded = packed(codec, rng(out * 1000 + width).normal([out, width]) as Tensor2D)
      const w = plain && gpu ? dense(coded.dense()) : coded
      const x = rng(1).normal([...rows, width])
      const dy = rng(2).normal([...rows, out])
      kernels.plain = plain && !gpu
      const dx = gradients(() => sum(mul(w.apply(x), dy)), [x]).grads[0]!
      return [w.apply(x), dx, w.rows!(tensor1d([out - 1, 0, out >> 1], 'int32')), w.dense()]
    })
  const [found, wanted] = [results(false), results(true)]
  kernels.plain = false
  for (const [i, y] of found.entries()) {
    expect(y.shape).toEqual(wanted[i]!.shape)
    const [a, b] = [(await y.data()) as Float32Array, (await wanted[i]!.data()) as Float32Array]
    expect(most(a.map((v, j) => v - b[j]!)), `${i}: [${rows}] and [${out}, ${width}]`).toBeLessThanOrEqual(
      1e-5 * most(b) + 1e-30,
    )
  }
  dispose([...found, ...wanted])
  expect(memory().numTensors).toBe(before)
}

export const testProducts = (
  name: string,
  start: () => Promise<unknown>,
  { large = [1061, 501] }: { large?: [number, number] } = {},
): void =>
  void describe(`products with a packed weight on ${name}`, () => {
    beforeAll(async () => {
      await start()
    })
    afterEach(() => {
      kernels.plain = false
    })

    it.each(Object.entries(CODECS))(
      '%s: values, gradients and rows are those of the decoded matrix',
      async (_, codec) => {
        const side = fc.integer({ min: 1, max: 150 })
        const rows = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 })
        await fc.assert(
          fc.asyncProperty(rows, side, side, (r, a, b) => compare(name, codec, { rows: r, shape: [a, b] })),
          { seed: 7, numRuns: 15 },
        )
        // sides that fours and blocks divide
        await compare(name, codec, { rows: [3, 7], shape: [64, 128] })
        await compare(name, codec, { rows: [2], shape: [100, 64] })
      },
    )

    it.each(Object.entries(CODECS))('%s: one token, and a large matrix', async (_, codec) => {
      await compare(name, codec, { rows: [1, 1], shape: [301, 1001] })
      await compare(name, codec, { rows: [9], shape: large })
    })
  })
