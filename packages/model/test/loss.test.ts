import type { Batch, Params, Scalar } from '@weftjs/spec'
import { backprop, cpu, logSoftmax, mul, neg, oneHot, reshape, rng, sum, tensor, tensor1d, wasm } from '@weftjs/tensor'
import { beforeAll, describe, expect, it } from 'vitest'
import { attach, inputsOf, nextToken } from '../src/index.ts'
import { distance, fixture, largest } from './fixture.ts'

beforeAll(async () => {
  await cpu()
})

/** a part of the places has a target, as in a chat where only the answers count */
const batch = (vocabulary: number, [B, T]: [number, number], share: number): Batch => {
  const ids = Int32Array.from(rng(1).numbers(B * T), (u) => Math.floor(u * vocabulary))
  const counts = rng(2).numbers(B * T)
  const some = Array.from(counts, (u) => u < share)
  some[3] = true
  return {
    shape: [B, T],
    ids,
    targets: ids.map((id, i) => (some[i] ? (id * 7 + 1) % vocabulary : -100)),
    positions: ids.map((_, i) => i % T),
    segments: new Int32Array(B * T).fill(1),
  }
}

describe.each(['cpu', 'wasm'])('the loss on %s', (backend) => {
  beforeAll(async () => void (await (backend === 'cpu' ? cpu() : wasm())))
  it.each([
    ['llama3', 0, [2, 40]],
    ['llama3', 0.3, [4, 40]],
    ['llama3', 0.95, [4, 40]],
    ['gemma2', 0.2, [5, 30]],
  ] as const)('%s, a share of %d of the places: as of all logits, and its gradients', async (name, share, shape) => {
    const { network } = await fixture(name)
    const tuned = attach(network, [], rng(0), { train: ['**'] })
    const data = batch(network.config.vocabulary, [...shape], share)
    const N = shape[0] * shape[1]
    const whole = (p: Params): Scalar => {
      const logits = reshape(tuned.forward(p, inputsOf(data)).logits, [N, -1])
      const counted = data.targets.filter((t) => t >= 0).length
      const weights = tensor(
        Float32Array.from(data.targets, (t) => (t >= 0 ? 1 / counted : 0)),
        [N, 1],
      )
      const hot = oneHot(
        tensor1d(
          data.targets.map((t) => Math.max(t, 0)),
          'int32',
        ),
        logits.shape[1]!,
      )
      return neg(sum(mul(mul(logSoftmax(logits), hot), weights))) as Scalar
    }
    const [a, b] = [
      backprop((p) => nextToken(tuned.run(p, inputsOf(data)), data), tuned.params),
      backprop(whole, tuned.params),
    ]
    expect(Math.abs(a.loss.dataSync()[0]! - b.loss.dataSync()[0]!)).toBeLessThan(1e-5)
    for (const n of Object.keys(tuned.params)) {
      const [x, y] = [a.grads[n]!.dataSync(), b.grads[n]!.dataSync()]
      expect(distance(x, y), n).toBeLessThan(2e-5 * Math.max(1, largest(y)))
    }
  })
})
