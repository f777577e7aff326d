import { setBackend } from '@tensorflow/tfjs-core'
import fc from 'fast-check'
import { beforeAll, expect, it } from 'vitest'
import * as w from '../src/index.ts'

beforeAll(async () => {
  await w.cpu()
  await w.wasm()
})

type Numbers = readonly (readonly number[])[]
const numbers = (tensors: readonly w.Tensor[]): Numbers => tensors.map((t) => Array.from(t.dataSync()))
const near = (found: Numbers, expected: Numbers, tolerance: number): void => {
  expect(found.map((f) => f.length)).toEqual(expected.map((e) => e.length))
  expected.forEach((values, i) => {
    const largest = values.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-3)
    const worst = values.reduce((m, v, j) => Math.max(m, Math.abs(v - found[i]![j]!)), 0)
    expect(worst / largest, `result ${i}`).toBeLessThan(tolerance)
  })
}

const sizes = fc.constantFrom<[N: number, D: number, V: number][]>(
  [1, 1, 2],
  [1, 8, 16],
  [5, 3, 15],
  [6, 16, 17],
  [9, 20, 64],
  [33, 12, 1031],
  [7, 48, 5000],
)

it.each(['cpu', 'wasm'])('on %s it is what composed ops give, in value and gradients', (backend) =>
  fc.assert(
    fc.asyncProperty(
      sizes,
      fc.constantFrom(undefined, 1, 4, 33),
      fc.constantFrom(undefined, 8, 30),
      fc.constantFrom([0, 1], [0], [1], []),
      fc.constantFrom(0.1, 1),
      async ([N, D, V], rows, softcap, wrt, size) => {
        await setBackend(backend)
        const r = w.rng(N + V)
        const run = (): Numbers => {
          const inputs = [r.fork('h').normal([N, D], size), r.fork('w').normal([V, D])]
          const ids = Array.from(r.fork('t').numbers(N), (u) => Math.floor(u * V))
          const weights = Array.from(r.fork('p').numbers(N), (u) => (u < 0.3 ? 0 : u))
          const { value, grads } = w.gradients(
            () =>
              w.mul(
                w.crossEntropy(inputs[0]!, inputs[1]!, w.tensor1d(ids, 'int32'), w.tensor1d(weights), {
                  ...(rows && { rows }),
                  softcap,
                }),
                3,
              ),
            wrt.map((i) => inputs[i]!),
          )
          return numbers([value, ...(grads as w.Tensor[]), ...inputs])
        }
        const fast = run()
        w.kernels.plain = true
        try {
          near(fast, run(), 1e-5)
        } finally {
          w.kernels.plain = false
        }
      },
    ),
    { numRuns: 25, seed: 11, endOnFailure: true },
  ),
)

it('logits out of reach of exp, and rows of one certain token, stay finite', async () => {
  await setBackend('wasm')
  for (const softcap of [undefined, 20]) {
    const hidden = w.tensor2d([300, -300, 1e4, 1e4, 0, 0], [3, 2])
    const head = w.tensor2d(
      Array.from({ length: 70 }, (_, i) => (i % 2 ? -1 : 1) * (i % 5)),
      [35, 2],
    )
    const { value, grads } = w.gradients(
      () => w.crossEntropy(hidden, head, w.tensor1d([0, 34, 1], 'int32'), w.tensor1d([1, 0.5, 1]), { softcap }),
      [hidden, head],
    )
    for (const values of numbers([value, ...(grads as w.Tensor[])])) expect(values.every(Number.isFinite)).toBe(true)
  }
})

it('on the wasm heap only one piece of logits exists at a time, and each gradient once', async () => {
  await setBackend('wasm')
  const [N, D, V, rows] = [64, 8, 2000, 16]
  const [hidden, head] = [w.ones([N, D]), w.ones([V, D])]
  const [targets, weights] = [w.zeros([N], 'int32'), w.ones([N])]
  const peak = w.peakBytes()
  const most = (wrt: w.Tensor[]): number => {
    peak.reset()
    const { now } = peak
    w.dispose(w.gradients(() => w.crossEntropy(hidden, head, targets as never, weights, { rows }), wrt).grads as never)
    return peak.bytes - now
  }
  const [piece, dHidden, dHead, small] = [4 * rows * V, 4 * N * D, 4 * V * D, 4 * 3 * rows]
  expect(most([hidden])).toBeLessThan(piece + dHidden + small)
  expect(most([hidden, head])).toBeLessThan(piece + dHidden + dHead + small)
})
