import { expect, it } from 'vitest'
import { cpu, kernels, rng, tensor, walshHadamard, zeros } from '../src/index.ts'
import { fwht } from '../src/linalg/index.ts'

await cpu()

it.each([false, true])('is the transform of linalg, row by row (composed ops: %s)', async (plain) => {
  kernels.plain = plain
  try {
    for (const n of [1, 2, 16, 64, 128, 4096, 8192]) {
      const x = rng(n).normal([3, n])
      const want = fwht(Float64Array.from(await x.data()), { size: n })
      const found = await walshHadamard(x).data()
      expect(Math.max(...found.map((v, i) => Math.abs(v - want[i]!)))).toBeLessThan(1e-5 * n)
    }
    expect([...(await walshHadamard(tensor([1, 2, 3, 4])).data())]).toEqual([10, -2, -4, 0])
  } finally {
    kernels.plain = false
  }
})

it('refuses what is no power of two', () => {
  expect(() => walshHadamard(zeros([2, 6]))).toThrow('the last axis of [2,6] is no power of two; pad it')
})
