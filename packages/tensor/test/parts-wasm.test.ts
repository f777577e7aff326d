import { beforeAll, describe, expect, it } from 'vitest'
import { threads } from '../src/heap.ts'
import { abs, crossEntropy, glu, gradients, kernels, mul, rng, sum, type Tensor, tensor1d, wasm } from '../src/index.ts'

beforeAll(async () => {
  process.env['WEFT_THREADS'] = '3'
  await wasm()
})

/**
 * the value and all gradients, fast and plain, farthest apart relative to the largest number; the value relative to `summed`
 * where it is a sum, whose rounding goes with what is summed and not with what is left of it
 */
const apart = async (f: () => Tensor, xs: readonly Tensor[], summed?: number): Promise<number> => {
  const run = async (plain: boolean): Promise<Float32Array[]> => {
    kernels.plain = plain
    try {
      const { value, grads } = gradients(f, xs)
      return Promise.all([value, ...grads].map(async (t) => (await t!.data()) as Float32Array))
    } finally {
      kernels.plain = false
    }
  }
  const [fast, plain] = [await run(false), await run(true)]
  return Math.max(
    ...fast.map((a, i) => {
      const b = plain[i]!
      const top = i === 0 && summed ? summed : b.reduce((m, x) => Math.max(m, Math.abs(x)), 0)
      return a.reduce((m, x, j) => Math.max(m, Math.abs(x - b[j]!)), 0) / top
    }),
  )
}

describe('kernels large enough for several threads', () => {
  it('has threads here, or one core', () => {
    expect(threads()).toBe(3)
  })

  it('cross-entropy, rows that no number of threads divides', async () => {
    const [n, D, V] = [53, 24, 9001]
    const hidden = rng(1).normal([n, D]) // [n, D]
    const head = rng(2).normal([V, D]) // [V, D]
    const targets = tensor1d(
      Array.from({ length: n }, (_, i) => (i * 977) % V),
      'int32',
    )
    const weights = tensor1d(Array.from({ length: n }, (_, i) => (i % 5 === 3 ? 0 : 1 / n)))
    expect(await apart(() => crossEntropy(hidden, head, targets, weights), [hidden, head])).toBeLessThan(1e-5)
    const capped = () => crossEntropy(hidden, head, targets, weights, { softcap: 7 })
    expect(await apart(capped, [hidden, head])).toBeLessThan(1e-5)
  })

  it('gates, a length that divides by nothing', async () => {
    const [gate, up, slope] = [3, 4, 5].map((seed) => rng(seed).normal([211, 997])) as [Tensor, Tensor, Tensor]
    for (const kind of ['silu', 'gelu', 'gelu_tanh', 'relu', 'tanh'] as const) {
      const terms = (): Tensor => mul(glu(gate, up, kind), slope)
      const summed = (await sum(abs(terms())).data())[0]!
      expect(await apart(() => sum(terms()), [gate, up], summed)).toBeLessThan(1e-5)
    }
  })
})
