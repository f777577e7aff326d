import type { Adapter, Batch, Params, Scalar, Tensor } from '@weftjs/spec'
import { backprop, cpu, dispose, memory, rng, tidy } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { attach, inputsOf, nextToken, type Tuned } from '../src/index.ts'

await cpu()

const [L, B, T] = [6, 2, 8]
const network = tinyLlama(rng(0), { layers: L })
const batch: Batch = {
  shape: [B, T],
  ids: Int32Array.from({ length: B * T }, (_, i) => (i * 5) % 24),
  targets: Int32Array.from({ length: B * T }, (_, i) => (i * 5 + 5) % 24),
  positions: Int32Array.from({ length: B * T }, (_, i) => i % T),
  segments: new Int32Array(B * T).fill(1),
}

// tables of rotary embedding are made once and stay
tidy(() => void attach(network, [], rng(0)).run({}, inputsOf(batch)))

/** bytes that a forward pass leaves, and what the backward pass gives */
const run = (tuned: Tuned, recompute = false): { held: number; grads: Record<string, number[]> } => {
  const before = memory().numBytes
  let held = 0
  const { loss, grads } = backprop((params: Params) => {
    const pass = tuned.run(params, inputsOf(batch), { training: true, recompute })
    held = memory().numBytes - before
    return nextToken(pass, batch) as Scalar
  }, tuned.params)
  const found = Object.fromEntries(Object.entries(grads).map(([n, g]) => [n, [...g.dataSync()]]))
  dispose([loss, ...Object.values(grads)])
  expect(memory().numBytes).toBe(before)
  return { held, grads: found }
}
/** blocks from the i-th on train whole */
const from = (i: number): Tuned =>
  attach(network, [], rng(0), { train: Array.from({ length: L - i }, (_, j) => `blocks.${i + j}.**`) })

describe.each([false, true])('where only the last blocks train (recompute: %s)', (recompute) => {
  const whole = run(from(0), recompute)

  it('their gradients are those of full tuning', () => {
    for (const i of [L - 1, 3]) {
      const { grads } = run(from(i), recompute)
      expect(Object.keys(grads)).toHaveLength((L - i) * 9)
      for (const [name, g] of Object.entries(grads)) expect(g, name).toEqual(whole.grads[name])
    }
  })

  it('a block more that is frozen is that much less held, down to one hidden state', () => {
    const held = Array.from({ length: L }, (_, i) => run(from(i), recompute).held)
    const each = held[3]! - held[4]!
    expect(each).toBeGreaterThanOrEqual(B * T * 16 * 4) // what goes into the block, at the least
    for (let i = 1; i < L - 1; i++) expect(held[i]! - held[i + 1]!).toBe(each)
  })
})

it('what an adapter saw within a block stays as long as the pass', async () => {
  const seen: Tensor[] = []
  const watch: Adapter = {
    name: 'watch',
    init: () => ({ state: {} }),
    around: (next, x) => {
      seen.push(x)
      return next(x)
    },
  }
  const sums = tidy(() => {
    attach(network, [{ adapter: watch, at: 'blocks.*' }], rng(0)).run({}, inputsOf(batch))
    return seen.map((t) => (t.dataSync() as Float32Array).reduce((a, b) => a + Math.abs(b), 0)) as never
  }) as unknown as number[]
  expect(sums).toHaveLength(L)
  for (const s of sums) expect(s).toBeGreaterThan(0)
})

it('a pass that trains nothing holds one hidden state, however many blocks there are', () => {
  const held = [2, L].map((layers) => {
    const tuned = attach(tinyLlama(rng(0), { layers }), [], rng(0))
    const pass = (): number => {
      const before = memory().numTensors
      return tidy(() => {
        tuned.run({}, inputsOf(batch))
        return memory().numTensors - before
      }) as unknown as number
    }
    pass()
    return pass()
  })
  expect(held[1]).toBe(held[0])
})
