import type { Codec } from '@weftjs/spec'
import {
  cpu,
  gradients,
  kernels,
  linear,
  matMul,
  memory,
  mul,
  reshape,
  rng,
  sum,
  type Tensor,
  tensor,
  tensor1d,
  tidy,
  wasm,
} from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { fromParts } from '@weftjs/weight'
import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { partsOf } from '../src/aqlm.ts'
import { type AqlmParts, aqlm } from '../src/index.ts'

interface Made {
  readonly codebooks: number
  readonly bits: number
  readonly group: number
  readonly outGroup: number
  readonly tall: number
  readonly wide: number
}
/** random codes, books and scales, and the matrix that they say, by the definition */
const random = ({ codebooks, bits, group, outGroup, tall, wide }: Made, seed: number) => {
  const numbers = (n: number, key: string): Float32Array =>
    Float32Array.from(rng(seed).fork(key).numbers(n), (v) => 2 * v - 1)
  const d = group * outGroup
  const codes = Int32Array.from(rng(seed).numbers(tall * wide * codebooks), (v) => Math.floor(v * 2 ** bits))
  // eighths are float16 numbers
  const books = numbers(codebooks * 2 ** bits * d, 'books').map((v) => Math.round(8 * v) / 8)
  const scales = numbers(tall, 'scales')
  const shape = [tall * outGroup, wide * group] as const
  const w = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => {
    const [row, column] = [Math.floor(i / shape[1]), i % shape[1]]
    const o = Math.floor(row / outGroup)
    const j = Math.floor(column / group)
    const t = (row % outGroup) * group + (column % group)
    let v = 0
    for (let c = 0; c < codebooks; c++) v += books[(c * 2 ** bits + codes[(o * wide + j) * codebooks + c]!) * d + t]!
    return v * scales[o]!
  })
  return {
    codec: aqlm({ codebooks, bits, group, outGroup }) as Codec,
    shape,
    w,
    parts: (): AqlmParts => partsOf({ codes, books, scales }, bits),
  }
}
const CASES: readonly Made[] = [
  { codebooks: 2, bits: 8, group: 8, outGroup: 1, tall: 33, wide: 9 },
  { codebooks: 1, bits: 12, group: 8, outGroup: 1, tall: 7, wide: 6 },
  { codebooks: 3, bits: 3, group: 5, outGroup: 2, tall: 8, wide: 7 },
  { codebooks: 2, bits: 5, group: 3, outGroup: 1, tall: 5, wide: 11 },
  { codebooks: 1, bits: 8, group: 6, outGroup: 3, tall: 4, wide: 5 },
]
const near = async (found: Tensor, wanted: ArrayLike<number>, what: string): Promise<void> => {
  const values = await found.data()
  expect(values.length, what).toBe(wanted.length)
  const most = Array.from(wanted).reduce((m, v) => Math.max(m, Math.abs(v)), 0)
  const worst = Array.from(values).reduce((m, v, i) => Math.max(m, Math.abs(v - wanted[i]!)), 0)
  expect(worst, what).toBeLessThanOrEqual(1e-5 * most)
}
/** decoded, multiplied and differentiated, against the matrix that the definition gives */
const compare = async (made: Made, seed = 1, rows: readonly number[] = [2, 3]): Promise<void> => {
  const { codec, shape, w, parts } = random(made, seed)
  const before = memory().numTensors
  const own = parts()
  const weight = fromParts(codec, own, shape)
  const dense = tensor(w, [...shape])
  const x = rng(2).normal([...rows, shape[1]])
  const dy = rng(3).normal([...rows, shape[0]])
  const what = JSON.stringify(made)
  const check = async (f: () => Tensor, wanted: () => Tensor, name: string): Promise<void> => {
    const [a, b] = [tidy(f), tidy(wanted)]
    await near(a, await b.data(), `${name} of ${what}`)
    a.dispose()
    b.dispose()
  }
  await check(
    () => weight.dense(),
    () => reshape(dense, [...shape]),
    'decode',
  )
  await check(
    () => weight.apply(x),
    () => linear(x, dense as never),
    'product',
  )
  await check(
    () => gradients(() => sum(mul(weight.apply(x), dy)), [x]).grads[0]!,
    () => reshape(matMul(reshape(dy, [-1, shape[0]]), dense), x.shape),
    'gradient',
  )
  const index = tensor1d([shape[0] - 1, 0, shape[0] >> 1], 'int32')
  const picked = Float32Array.from(
    { length: 3 * shape[1] },
    (_, i) => w[[shape[0] - 1, 0, shape[0] >> 1][Math.floor(i / shape[1])]! * shape[1] + (i % shape[1])]!,
  )
  const found = tidy(() => weight.rows!(index))
  await near(found, picked, `rows of ${what}`)
  for (const t of [...Object.values(own), dense, x, dy, index, found]) t.dispose()
  expect(memory().numTensors).toBe(before)
}

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('additive code books on %s', (_, backend) => {
  beforeAll(async () => {
    await backend()
  })
  afterEach(() => {
    kernels.plain = false
  })
  it.each(CASES)('%j: values, products, gradients and rows are those of the definition', (made) => compare(made))
  it('any layout', () =>
    fc.assert(
      fc.asyncProperty(
        fc.record({
          codebooks: fc.integer({ min: 1, max: 3 }),
          bits: fc.integer({ min: 1, max: 10 }),
          group: fc.integer({ min: 1, max: 17 }),
          outGroup: fc.integer({ min: 1, max: 3 }),
          tall: fc.integer({ min: 1, max: 20 }),
          wide: fc.integer({ min: 1, max: 20 }),
        }),
        fc.nat(100),
        (made, seed) => compare(made, seed, [1 + (seed % 9)]),
      ),
      { numRuns: 30 },
    ))
  it('more rows than are decoded at a time, and one token', async () => {
    await compare({ codebooks: 2, bits: 8, group: 8, outGroup: 1, tall: 1061, wide: 63 }, 4, [9])
    await compare({ codebooks: 1, bits: 7, group: 8, outGroup: 1, tall: 301, wide: 125 }, 5, [1, 1])
  })
})

// `npm test` brings a software adapter where there is no GPU
describe.skipIf(!(await hasGpuFiles()))('additive code books on webgpu', () => {
  beforeAll(async () => {
    await nodeWebgpu()
  })
  it.each(CASES)(
    '%j: values, products, gradients and rows are those of the definition',
    (made) => compare(made),
    60_000,
  )
})
