import type { Codec, Tensor, Tensor2D } from '@weftjs/spec'
import { cpu, gradients, kernels, memory, mul, rng, sum, tidy, wasm } from '@weftjs/tensor'
import { packed } from '@weftjs/weight'
import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { dynamic8, fp4, int8, nf4 } from '../src/index.ts'

const CODECS: readonly (readonly [string, Codec])[] = [
  ['nf4', nf4() as Codec],
  ['nf4 in blocks of 32', nf4({ block: 32 }) as Codec],
  ['nf4 double', nf4({ double: true, doubleBlock: 32 }) as Codec],
  ['fp4', fp4() as Codec],
  ['int8', int8() as Codec],
  ['dynamic8', dynamic8({ block: 48 }) as Codec],
]
interface Case {
  readonly rows: readonly number[]
  readonly shape: readonly [number, number]
}
const values = (t: Tensor): Float32Array => t.dataSync() as Float32Array
const most = (v: Float32Array): number => v.reduce((a, x) => Math.max(a, Math.abs(x)), 0)

/** value and gradient of x of a packed weight, and of the same weight by the reference */
const compare = (codec: Codec, { rows, shape: [out, width] }: Case): void => {
  const w = packed(codec, rng(out * 1000 + width).normal([out, width]) as Tensor2D)
  const x = rng(1).normal([...rows, width])
  const dy = rng(2).normal([...rows, out])
  const results = (): Tensor[] => {
    const { value, grads } = gradients(() => sum(mul(w.apply(x), dy)), [x])
    return [w.apply(x), value, grads[0]!]
  }
  const found = results()
  kernels.plain = true
  const wanted = results()
  kernels.plain = false
  for (const [i, y] of found.entries()) {
    expect(y.shape).toEqual(wanted[i]!.shape)
    const [a, b] = [values(y), values(wanted[i]!)]
    // the sum of products is compared with what is summed
    const size = i === 1 ? most(values(wanted[0]!)) * Math.sqrt(dy.size) : most(b)
    expect(most(a.map((v, j) => v - b[j]!))).toBeLessThanOrEqual(1e-5 * size + 1e-30)
  }
}

describe.each([
  ['cpu', () => cpu()],
  ['wasm with BLAS, if there is one', () => wasm()],
] as const)('products with a packed weight on %s', (_, start) => {
  beforeAll(async () => {
    await start()
  })
  afterEach(() => {
    kernels.plain = false
  })

  it.each(CODECS)('%s: values and gradients are those of the decoded matrix', (_, codec) => {
    const side = fc.integer({ min: 1, max: 150 })
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 }),
        side,
        side,
        (rows, a, b) => {
          tidy(() => compare(codec, { rows, shape: [a, b] }))
        },
      ),
      { seed: 7, numRuns: 15 },
    )
  })

  it.each(CODECS)('%s: one token, and a matrix of several panels', (_, codec) => {
    tidy(() => compare(codec, { rows: [1, 1], shape: [301, 1001] }))
    tidy(() => compare(codec, { rows: [9], shape: [1061, 501] }))
  })

  it.each(CODECS)('%s: nothing is left behind', (_, codec) => {
    const w = packed(codec, rng(3).normal([30, 70]) as Tensor2D)
    const x = rng(1).normal([4, 70])
    const before = memory().numTensors
    w.apply(x).dispose()
    expect(memory().numTensors).toBe(before)
  })
})
