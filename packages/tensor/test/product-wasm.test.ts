import { memory, type Tensor, tensor, tidy } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { useBlas } from '../src/blas.ts'
import * as w from '../src/index.ts'
import { type Product, product } from '../src/kernels/product.ts'
import { productOnHeap } from '../src/kernels/wasm/product.ts'

const size = fc.constantFrom(1, 2, 3, 5, 8, 9, 12, 17, 40, 67)
const cases = fc.record({
  m: size,
  n: size,
  k: fc.constantFrom(1, 3, 8, 21, 64, 530),
  r: fc.constantFrom(0, 1, 4, 9),
  transposeA: fc.boolean(),
  transposeB: fc.boolean(),
  more: fc.constantFrom('nothing', 'bias', 'onto', 'into', 'scale', 'all'),
})

const fill = (shape: readonly number[], seed: number): Tensor => {
  let state = (seed * 2654435761 + 12345) >>> 0
  const values = Array.from({ length: shape.reduce((p, d) => p * d, 1) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
  return tensor(Float32Array.from(values), [...shape])
}

const check = ({ m, n, k, r, more, ...form }: typeof cases extends fc.Arbitrary<infer C> ? C : never): void => {
  const a = (rows: number, columns: number, seed: number): Tensor =>
    fill(form.transposeA ? [columns, rows] : [rows, columns], seed)
  const b = (rows: number, columns: number, seed: number): Tensor =>
    fill(form.transposeB ? [columns, rows] : [rows, columns], seed)
  const all = more === 'all'
  tidy(() => {
    const matrix = fill([m, n], 5)
    const base: Product = {
      ...form,
      ...{ a: a(m, k, 1), b: b(k, n, 2) },
      ...(r && { and: [a(m, r, 3), b(r, n, 4)] as const }),
      ...((more === 'bias' || all) && { bias: fill([n], 6) }),
      ...((more === 'scale' || all) && { scale: -0.3 }),
    }
    w.kernels.plain = true
    const right = product({ ...base, ...((more === 'onto' || more === 'into' || all) && { onto: matrix }) })
    w.kernels.plain = false
    const y = productOnHeap({
      ...base,
      ...((more === 'onto' || all) && { onto: matrix }),
      ...(more === 'into' && { into: matrix }),
    })
    if (all) {
      expect(y).toBeUndefined() // declined, not done wrong
      return
    }
    if (more === 'into') expect(y).toBe(matrix)
    const [found, expected] = [y!.dataSync(), right.dataSync()]
    expect(y!.shape).toEqual([m, n])
    expected.forEach((v, i) => {
      expect(Math.abs(found[i]! - v)).toBeLessThan(3e-6 * Math.sqrt(k) + 3e-6)
    })
  })
}

const ways: [string, () => Promise<unknown>][] = [
  ['by our own kernels', async () => vi.stubEnv('WEFT_BLAS', 'off')],
  ['by a system BLAS, where there is one', async () => vi.unstubAllEnvs()],
]
describe.each(ways)('sums of products on the wasm heap, %s', (_, prepare) => {
  beforeAll(async () => {
    await prepare()
    await w.wasm()
    await useBlas()
  })
  afterAll(() => {
    vi.unstubAllEnvs()
  })

  it('are what the composed ops give, and leave nothing behind', () => {
    const before = memory().numTensors
    fc.assert(fc.property(cases, check), { numRuns: 150, seed: 3 })
    expect(memory().numTensors).toBe(before)
  })

  it('are not made of empty or whole-number tensors', () => {
    tidy(() => {
      const [x, none] = [fill([2, 3], 1), tensor([], [0, 3])]
      expect(productOnHeap({ a: none, b: x, transposeB: true })).toBeUndefined()
      expect(productOnHeap({ a: w.cast(x, 'int32'), b: x, transposeB: true })).toBeUndefined()
    })
  })
})
