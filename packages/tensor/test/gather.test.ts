import { setBackend } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'

beforeAll(async () => {
  await w.cpu()
  await w.wasm()
})

const numbers = (tensors: readonly w.Tensor[]): number[][] => tensors.map((t) => Array.from(t.dataSync()))
const near = (found: number[][], expected: number[][]): void =>
  expected.forEach((values, i) => {
    const largest = Math.max(1, ...values.map(Math.abs))
    const worst = Math.max(0, ...values.map((v, j) => Math.abs(v - found[i]![j]!)))
    expect(found[i], `result ${i}`).toHaveLength(values.length)
    expect(worst / largest, `result ${i}`).toBeLessThan(1e-5)
  })
const asComposed = (run: () => number[][]): void => {
  const fast = run()
  w.kernels.plain = true
  try {
    near(fast, run())
  } finally {
    w.kernels.plain = false
  }
}

/** orders in which a matrix is used: as rows, as a head, in a product */
const uses = fc.array(fc.constantFrom('rows', 'head', 'product'), { minLength: 1, maxLength: 4 })

describe.each(['cpu', 'wasm'])('rows of a matrix on %s', (backend) => {
  it('their gradients add up wherever else the matrix is used', () =>
    fc.assert(
      fc.asyncProperty(
        uses,
        fc.constantFrom<[number, number][]>([1, 1], [5, 3], [7, 4], [9, 33], [300, 20]),
        fc.array(fc.nat(1000), { minLength: 1, maxLength: 12 }),
        async (uses, [V, D], raw) => {
          await setBackend(backend)
          const r = w.rng(V + D)
          const ids = raw.map((u) => u % V)
          asComposed(() => {
            const [m, x] = [r.fork('m').normal([V, D]), r.fork('x').normal([ids.length, D])]
            const index = w.tensor1d(ids, 'int32')
            const { value, grads } = w.gradients(() => {
              let h: w.Tensor = x
              let loss: w.Tensor = w.scalar(0)
              for (const use of uses) {
                if (use === 'rows') h = w.add(h, w.gatherRows(m, index))
                else if (use === 'product') loss = w.add(loss, w.mean(w.linear(h, m)))
                else loss = w.add(loss, w.crossEntropy(h, m, index, w.fill([ids.length], 0.5)))
              }
              return w.add(loss, w.sum(w.square(h)))
            }, [m, x])
            return numbers([value, ...grads.map((g, i) => g ?? w.zerosLike([m, x][i]!))])
          })
        },
      ),
      { numRuns: 20, seed: 3 },
    ))

  it('takes an index of any shape', async () => {
    await setBackend(backend)
    const found = w.gatherRows(w.tensor2d([1, 2, 3, 4, 5, 6], [3, 2]), w.tensor2d([2, 0, 1, 2, 2, 0], [2, 3], 'int32'))
    expect(found.shape).toEqual([2, 3, 2])
    expect(Array.from(found.dataSync())).toEqual([5, 6, 1, 2, 3, 4, 5, 6, 5, 6, 1, 2])
  })

  it.each([-1, 3])('refuses row %d of three', async (bad) => {
    await setBackend(backend)
    const index = w.tensor1d([0, bad], 'int32')
    expect(() => w.gatherRows(w.ones([3, 2]), index)).toThrow(/index/i)
  })
})

it('recomputed parts have gradients of their own', async () => {
  await setBackend('wasm')
  asComposed(() => {
    const m = w.rng(1).normal([6, 4])
    const index = w.tensor1d([5, 0, 5], 'int32')
    const block = (x: w.Tensor): w.Tensor => w.linear(w.add(x, w.gatherRows(m, index)), m)
    const { value, grads } = w.gradients(() => {
      const y = w.recompute(block, w.gatherRows(m, index), [m])
      return w.add(w.sum(w.square(y)), w.mean(w.linear(w.gatherRows(m, index), m)))
    }, [m])
    return numbers([value, grads[0]!])
  })
})

it('on the wasm heap a tied matrix has one gradient, and nothing else of its size', async () => {
  await setBackend('wasm')
  const [V, D, N] = [3000, 16, 8]
  const m = w.rng(2).normal([V, D])
  const index = w.tensor1d([1, 2, 3, 4, 5, 6, 7, 2999], 'int32')
  const weights = w.fill([N], 1 / N)
  const peak = w.peakBytes()
  peak.reset()
  const { numTensors } = w.memory()
  const before = peak.now
  const { value, grads } = w.gradients(
    () => w.crossEntropy(w.gatherRows(m, index), m, index, weights, { rows: 2 }),
    [m],
  )
  expect(peak.bytes - before).toBeLessThan(4 * V * D + 4 * 2 * V + 4 * 10 * N * D)
  w.dispose([value, ...(grads as w.Tensor[])])
  expect(w.memory().numTensors).toBe(numTensors)
})
