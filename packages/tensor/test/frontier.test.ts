import { describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'

await w.cpu()

const L = 6
const names = Array.from({ length: L }, (_, i) => `w${i}`)
const weights = Object.fromEntries(names.map((n) => [n, w.rng(1).fork(n).normal([16, 16], 0.3)]))
const scales = Object.fromEntries(names.map((n) => [n, w.ones([16])]))
const x = w.rng(2).normal([8, 16])
type Block = (h: w.Tensor, m: w.Tensor, s: w.Tensor) => w.Tensor
const blocks: Readonly<Record<string, Block>> = {
  'ops of the backend': (h, m, s) => w.tanh(w.add(h, w.exp(w.mul(w.matMul(h, m), s)))),
  'kernels of our own': (h, m, s) => w.add(h, w.activate(w.linear(w.rmsNorm(h, s), m), 'silu')),
  'recomputed ones': (h, m, s) => w.recompute((h) => w.add(h, w.tanh(w.linear(w.rmsNorm(h, s), m))), h, [m, s]),
}

/** loss, gradients of what trains, and bytes beyond the parameters when the forward pass has ended */
const run = (block: Block, trained: readonly string[]): { held: number; grads: Record<string, number[]> } => {
  const before = w.memory().numBytes
  let held = 0
  const { loss, grads } = w.backprop(
    (p) => {
      let h: w.Tensor = x
      for (const n of names) {
        const next = w.tidy(() => block(h, p[n] ?? weights[n]!, scales[n]!))
        // a block's input goes unless the tape holds it
        if (h !== x) h.dispose()
        h = next
      }
      held = w.memory().numBytes - before
      return w.sum(w.square(h)) as w.Scalar
    },
    Object.fromEntries(trained.map((n) => [n, weights[n]!])),
  )
  const found = Object.fromEntries(Object.entries(grads).map(([n, g]) => [n, [...g.dataSync()]]))
  w.dispose([loss, ...Object.values(grads)])
  expect(w.memory().numBytes).toBe(before)
  return { held, grads: found }
}

describe.each(Object.entries(blocks))('the backward pass ends at the deepest tensor that trains: %s', (_, block) => {
  const whole = run(block, names)

  it.each([
    ['the last block alone', [5]],
    ['the last two', [4, 5]],
    ['one in the middle', [3]],
    ['the first', [0]],
  ])('%s', (_, which) => {
    const { grads } = run(
      block,
      which.map((i) => names[i]!),
    )
    for (const i of which) expect(grads[names[i]!]).toEqual(whole.grads[names[i]!])
  })

  it('holds what the blocks from there on need, and nothing of those before', () => {
    const from = (i: number): number => run(block, names.slice(i)).held
    const bytes = names.map((_, i) => from(i))
    const perBlock = bytes[4]! - bytes[5]!
    expect(perBlock).toBeGreaterThan(0)
    // each block more costs the same; a frozen one costs nothing
    for (let i = 0; i < L - 1; i++) expect(bytes[i]! - bytes[i + 1]!).toBe(perBlock)
    expect(bytes[0]).toBe(whole.held)
    // one in the middle keeps nothing of the inputs of products before it
    expect(run(block, ['w3']).held).toBeLessThan(from(2))
  })
})

it('an op whose inputs train only beyond it is not kept though its kernel saves tensors', () => {
  const before = w.memory().numTensors
  let during = 0
  const { grads } = w.backprop(
    ({ t }) => {
      const h = w.tidy(() => w.softmax(w.rmsNorm(w.exp(x), scales['w0']!)))
      during = w.memory().numTensors - before
      return w.sum(w.mul(h, t!)) as w.Scalar
    },
    { t: w.ones([1]) },
  )
  expect(during).toBe(2) // h, and t itself
  expect(grads['t']!.dataSync()[0]).toBeCloseTo(8, 4)
})
