import { attach } from '@weftjs/model'
import { add, cpu, matMul, mul, rng, sub } from '@weftjs/tensor'
import { testAdapter, tinyLlama } from '@weftjs/testkit'
import { expect, it } from 'vitest'
import { diagonals } from '../src/index.js'

for (const options of [{}, { pairs: 3, scale: 0.5 }])
  testAdapter(diagonals(options), {
    startsAsIdentity: true,
    count: ({ in: n, out }) => (options.pairs ?? 1) * (n + out),
    lr: 0.05,
  })

it('is the equation: Δ = (uᵀ·v) ⊙ W', async () => {
  await cpu()
  const network = tinyLlama(rng(0))
  const tuned = attach(network, [{ adapter: diagonals({ pairs: 2 }), at: 'blocks.0.mlp.up' }], rng(1))
  const params = Object.fromEntries(
    Object.entries(tuned.params).map(([n, t]) => [n, add(t, rng(2).fork(n).normal(t.shape))]),
  )
  const [u, v] = ['u', 'v'].map((key) => params[`blocks.0.mlp.up.diagonals.${key}`]!) as [never, never]
  const w = network.weights['blocks.0.mlp.up']!.dense()
  const found = sub(tuned.fold(params).weights['blocks.0.mlp.up']!.dense(), w).dataSync()
  const expected = mul(matMul(u, v, true), w).dataSync()
  expect(found.length).toBe(expected.length)
  found.forEach((value, i) => {
    expect(value).toBeCloseTo(expected[i]!, 4)
  })
  expect(() => diagonals({ pairs: 0 })).toThrow('pairs must be a whole number of at least 1, found 0')
})
