import { attach, nextToken, type Tuned } from '@weftjs/model'
import type { Batch, Params, Scalar } from '@weftjs/spec'
import { backprop, cpu, defineKernel, dispose, peakBytes, rng, type Tensor, tensor, wasm } from '@weftjs/tensor'
import { beforeAll, describe, expect, it } from 'vitest'
import { lora } from '../src/index.ts'
import { distance, model } from './fixture.ts'

beforeAll(async () => {
  await cpu()
  await wasm()
})

const [B, T] = [2, 12]
const batch = (vocabulary: number, packed = false): Batch => {
  const ids = Int32Array.from(rng(5).numbers(B * T), (u) => Math.floor(u * vocabulary))
  const place = (i: number): number => (packed ? (i % T) % 6 : i % T)
  return {
    shape: [B, T],
    ids,
    targets: ids.map((_, i) => ((packed ? (i + 1) % 6 : (i + 1) % T) ? ids[i + 1]! : -100)),
    positions: ids.map((_, i) => place(i)),
    segments: ids.map((_, i) => (packed ? 1 + Math.floor((i % T) / 6) : 1)),
  }
}
/** made within the loss, as a training loop does it: gone when the backward pass runs */
const inputs = ({ ids, positions, segments }: Batch, packed: boolean): Params => ({
  ids: tensor(ids, [B, T], 'int32'),
  ...(packed && { positions: tensor(positions, [B, T], 'int32'), segments: tensor(segments, [B, T], 'int32') }),
})

let held = 0
/** what stands on the tape when the backward pass begins */
const probe = defineKernel<{ x: Tensor }>({
  name: 'Probe',
  plain: ({ x }) => x.clone(),
  keeps: () => [],
  gradient: ({ dy }) => {
    held = peakBytes().now
    return { x: dy }
  },
})
const step = (tuned: Tuned, params: Params, recompute: boolean, packed = false) => {
  const data = batch(tuned.network.config.vocabulary, packed)
  const start = peakBytes().now
  const { loss, grads } = backprop(
    (p) =>
      probe(
        {
          x: nextToken(tuned.run(p, inputs(data, packed), { training: true, rng: rng(3), recompute }), data),
        },
        {},
      ) as Scalar,
    params,
  )
  const found = {
    loss: loss.dataSync()[0]!,
    grads: Object.values(grads).map((g) => Array.from(g.dataSync())),
    tape: held - start,
  }
  dispose([loss, ...Object.values(grads)])
  return found
}
/** with both factors off zero */
const moved = (params: Params): Params =>
  Object.fromEntries(Object.entries(params).map(([n, t], i) => [n, rng(i).normal(t.shape, 0.2)]))

const LINEAR = ['blocks.*.attn.{q,k,v,o,qkv}', 'blocks.*.mlp.{gate,up,down}']

describe('blocks that are computed again', () => {
  it.each([
    ['llama3', 'adapters', false],
    ['llama3', 'adapters', true],
    ['llama3', 'everything', false],
    ['gemma3_text', 'adapters', true],
    ['gpt2', 'adapters', false],
  ])('%s, %s, several texts to a row: %s: the same loss and gradients', async (name, what, packed) => {
    const network = await model(name)
    const tuned =
      what === 'adapters'
        ? attach(network, [{ adapter: lora({ rank: 2, dropout: 0.3 }), at: LINEAR }], rng(1))
        : attach(network, [], rng(1), { train: '**' })
    const params = what === 'adapters' ? moved(tuned.params) : tuned.params
    const [kept, again] = [step(tuned, params, false, packed), step(tuned, params, true, packed)]
    expect(Math.abs(again.loss - kept.loss)).toBeLessThan(1e-5)
    kept.grads.forEach((g, i) => {
      const size = g.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-3)
      expect(distance(g, again.grads[i]!) / size, Object.keys(params)[i]).toBeLessThan(1e-5)
    })
    expect(again.tape).toBeLessThan(kept.tape / 2)
  })
})

it('LoRA on q and v keeps what its gradients read, and nothing of what is frozen', async () => {
  const network = await model('llama3')
  const tuned = attach(network, [{ adapter: lora({ rank: 2 }), at: 'blocks.*.attn.{q,v}' }], rng(1))
  const [D, KV, F, H, r] = [48, 24, 64, 4, 2]
  const adapters = D + 2 * r // x once for both, s·x·Aᵀ of each
  const attention = D + 2 * KV + D + H // q, k, v, the result, log Σ exp of each head
  const norm = D + 1
  const block = adapters + attention + norm + 2 * F // gate and up; the first norm below the first adapter keeps nothing
  const whole = 2 * block + norm + norm + D // the second block's first norm, the last norm, the loss's slope
  const tables = 2 * T * (D / H / 2)
  const { tape } = step(tuned, moved(tuned.params), false)
  expect(tape / 4).toBeLessThan(1.02 * B * T * whole + tables)
  const { tape: again } = step(tuned, moved(tuned.params), true)
  expect(again / 4).toBeLessThan(1.02 * B * T * (2 * D + norm + D) + tables)
})
