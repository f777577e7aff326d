import type { Tensor2D } from '@weftjs/spec'
import { cpu, matMul, rng, tensor, wasm } from '@weftjs/tensor'
import { expect, it } from 'vitest'
import { clipLimits } from '../src/solve/awq-clip.ts'

it.each([
  [21, 96, 32],
  [300, 64, 8],
  [3, 128, 128],
] as const)(
  'limits of %i rows of %i numbers in groups of %i are the same on the heap as in ops',
  async (out, n, group) => {
    await cpu()
    const numbers = rng(1).normal([out, n]).dataSync() as Float32Array
    const rows = rng(2)
      .normal([2 * n, n])
      .dataSync() as Float32Array
    const solve = (): Float32Array => {
      const x = tensor(rows, [2 * n, n])
      return clipLimits(tensor(numbers, [out, n]) as Tensor2D, matMul(x, x, true), group).dataSync() as Float32Array
    }
    await wasm()
    const found = solve()
    await cpu()
    const plain = solve()
    // sums in another order: of two limits that are as good the other may be taken
    expect(found.filter((v, i) => v !== plain[i]).length).toBeLessThanOrEqual(0.002 * found.length)
    const largest = Array.from(found, (_, i) => {
      const group0 = numbers.subarray((i * numbers.length) / found.length, ((i + 1) * numbers.length) / found.length)
      return Math.max(...group0.map(Math.abs))
    })
    expect(found.filter((v, i) => v < largest[i]!).length).toBeGreaterThan(found.length / 8)
  },
)
