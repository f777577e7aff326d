import { beforeAll, describe, expect, it } from 'vitest'
import { cpu } from '../src/cpu.ts'
import { fromMatrix, matrix, svd, toMatrix, toMatrixAsync, topFactors, topFactorsAsync } from '../src/linalg/index.ts'
import { matMul, type Tensor2D, tensor2d } from '../src/ops.ts'
import { rng } from '../src/rng.ts'
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
