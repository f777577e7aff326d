import type { Batch, Network } from '@weftjs/spec'
import { add, cpu, memory, mul, rng } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { dense } from '@weftjs/weight'
import { beforeAll, describe, expect, it } from 'vitest'
import { attach, divergenceFrom, inputsOf, type TransformerConfig } from '../src/index.ts'

beforeAll(async () => {
  await cpu()
})
const batchOf = (ids: readonly number[], targets: readonly number[], rows: number): Batch => {
  const T = ids.length / rows
  return {
    ...{ shape: [rows, T], ids: Int32Array.from(ids), targets: Int32Array.from(targets) },
    positions: Int32Array.from(ids, (_, i) => i % T),
    segments: new Int32Array(ids.length).fill(1),
  }
}
/** with noise on one matrix */
const noisy = (network: Network<TransformerConfig>): Network<TransformerConfig> => {
  const name = 'blocks.0.mlp.up'
  const w = network.weights[name]!.dense()
  return {
    ...network,
    weights: { ...network.weights, [name]: dense(add(w, mul(rng(9).normal([...w.shape]), 0.3)) as typeof w) },
  }
}

describe('divergenceFrom', () => {
  it('is the mean over places with a target of Σ p·ln(p/q)', async () => {
    const network = tinyLlama(rng(1))
    const other = noisy(network)
    const batches = [
      batchOf([1, 2, 3, 4, 5, 6, 7, 8], [2, 3, -100, 5, 6, 7, -100, -100], 2),
      batchOf([9, 8, 7], [8, 7, 6], 1),
    ]
    let [total, count] = [0, 0]
    for (const batch of batches) {
      const scores = [network, other].map((n) => attach(n, [], rng(0)).forward({}, inputsOf(batch)).logits.arraySync())
      batch.targets.forEach((target, i) => {
        if (target < 0) return
        const T = batch.shape[1]
        const [p, q] = scores.map((s) => {
          const row = (s as number[][][])[Math.floor(i / T)]![i % T]!
          const all = Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0))
          return row.map((v) => v - all)
        }) as [number[], number[]]
        total += p.reduce((sum, v, k) => sum + Math.exp(v) * (v - q[k]!), 0)
        count++
      })
    }
    const before = memory().numTensors
    const apart = divergenceFrom(network, batches)
    expect(total / count).toBeGreaterThan(1e-3)
    expect(await apart(other)).toBeCloseTo(total / count, 6)
    expect(await apart(network)).toBeCloseTo(0, 9)
    apart.dispose()
    expect(memory().numTensors).toBe(before)
    expect(() => divergenceFrom(network, [batchOf([1, 2], [-100, -100], 1)])).toThrow('no batch has a target')
  })
})
