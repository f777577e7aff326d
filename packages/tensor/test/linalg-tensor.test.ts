import { beforeAll, describe, expect, it } from 'vitest'
import { cpu } from '../src/cpu.ts'
import {
  asProduct,
  fromMatrix,
  matrix,
  multiply,
  randomizedSvd,
  scaleColumns,
  svd,
  toMatrix,
  toMatrixAsync,
  topFactors,
  topFactorsAsync,
  transpose,
} from '../src/linalg/index.ts'

import { matMul, memory, type Tensor2D, tensor2d } from '../src/ops.ts'
import { rng } from '../src/rng.ts'
import { wasm } from '../src/wasm.ts'
import { gap, lowRank, random } from './linalg-matrices.ts'

beforeAll(cpu)

describe('tensors and matrices', () => {
  it('there and back', async () => {
    const t = tensor2d([1, 2, 3, 4, 5, 6], [2, 3])
    expect(toMatrix(t)).toEqual(matrix(2, 3, [1, 2, 3, 4, 5, 6]))
    expect(await toMatrixAsync(t)).toEqual(toMatrix(t))
    const back = fromMatrix(toMatrix(t))
    expect([back.shape, back.dtype, [...(await back.data())]]).toEqual([[2, 3], 'float32', [1, 2, 3, 4, 5, 6]])
  })
  it('a matrix does not share memory with its tensor', async () => {
    const t = tensor2d([1, 2], [1, 2])
    toMatrix(t).data[0] = 9
    expect([...(await t.data())]).toEqual([1, 2])
  })
  it('says what to do where the backend cannot be read at once', () => {
    const stub = {
      shape: [2, 2],
      dataSync: () => {
        throw new Error('no')
      },
    } as unknown as Tensor2D
    expect(() => toMatrix(stub)).toThrow('[2,2] cannot be read at once on this backend; await toMatrixAsync(t)')
  })
})

describe('asProduct', () => {
  it('on wasm makes products on the heap, as the matrix does, and leaves no tensor', async () => {
    await wasm()
    const m = lowRank(150, 90, 6)
    const t = fromMatrix(m)
    const before = memory().numTensors
    const a = asProduct(t)
    if ('data' in a) throw new Error('it was read')
    const [x, y] = [random(90, 18), random(150, 18)]
    expect(gap(multiply(m, x), a.times(x))).toBeLessThan(1e-6)
    expect(gap(multiply(transpose(m), y), a.transposedTimes(y))).toBeLessThan(1e-6)
    const [{ u, s, v }, want] = [randomizedSvd(a, 6, { rng: rng(1) }), svd(m)]
    s.forEach((value, i) => {
      expect(Math.abs(value / want.s[i]! - 1)).toBeLessThan(1e-5)
    })
    expect(gap(m, multiply(scaleColumns(u, s), transpose(v)))).toBeLessThan(1e-5)
    expect(memory().numTensors).toBe(before)
    await cpu()
    expect('data' in asProduct(t)).toBe(true)
  })
})

describe('topFactors', () => {
  it('gives back a matrix of that rank, split evenly', () => {
    const w = fromMatrix(lowRank(40, 30, 3))
    for (const source of [rng(1), undefined]) {
      const { a, b } = topFactors(w, 3, source)
      expect([b.shape, a.shape]).toEqual([
        [40, 3],
        [3, 30],
      ])
      expect(gap(toMatrix(w), toMatrix(matMul(b, a) as Tensor2D))).toBeLessThan(1e-6)
      const sizes = [svd(toMatrix(b)).s, svd(toMatrix(a)).s]
      sizes[0]!.forEach((s, i) => {
        expect(s).toBeCloseTo(sizes[1]![i]!, 4)
      })
    }
  })
  it('leaves the least error that a rank can', () => {
    const w = fromMatrix(random(20, 12))
    const { s } = svd(toMatrix(w))
    const { a, b } = topFactors(w, 5)
    const left = gap(toMatrix(w), toMatrix(matMul(b, a) as Tensor2D))
    expect(left).toBeCloseTo(Math.hypot(...s.slice(5)) / Math.hypot(...s), 6)
  })
  it('is zero for zero, the same when awaited, and refuses a rank above the matrix', async () => {
    const zero = topFactors(fromMatrix(matrix(30, 40)), 2, rng(0))
    expect([...(await zero.b.data()), ...(await zero.a.data())].every((v) => v === 0)).toBe(true)
    const w = fromMatrix(random(6, 5))
    const [now, later] = [topFactors(w, 2, rng(3)), await topFactorsAsync(w, 2, rng(3))]
    expect(toMatrix(now.b)).toEqual(toMatrix(later.b))
    expect(() => topFactors(w, 6)).toThrow('topFactors: rank 6 is not in 1..min(6, 5) = 5; lower it')
  })
})
