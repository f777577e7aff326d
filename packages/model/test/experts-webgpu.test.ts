import type { Adapter, Params, Scalar, Tensor2D } from '@weftjs/spec'
import { backprop, rng, tensor, wasm } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { lowRank, sum } from '@weftjs/weight'
import { expect, it } from 'vitest'
import { attach, initNetwork, nextToken } from '../src/index.ts'
import { distance, largest } from './fixture.ts'

const source = {
  ...{ model_type: 'qwen2_moe', vocab_size: 20, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2 },
  ...{ num_key_value_heads: 2, moe_intermediate_size: 8, shared_expert_intermediate_size: 12, intermediate_size: 12 },
  ...{ num_experts: 6, num_experts_per_tok: 2, max_position_embeddings: 16, initializer_range: 0.5 },
}
const noisy: Adapter<{ a: Tensor2D; b: Tensor2D }> = {
  name: 'noisy',
  init: ({ weight }, { rng }) => ({
    state: {
      a: rng.normal([2, weight!.shape[1]], 0.3) as Tensor2D,
      b: rng.normal([weight!.shape[0], 2], 0.3) as Tensor2D,
    },
  }),
  weight: (base, { a, b }) => sum(base, lowRank(b, a)),
}

it.skipIf(!(await hasGpuFiles()))(
  'experts on a GPU, where no choice is read back, are those on the heap: logits, loss, balance and gradients',
  async () => {
    const run = async (): Promise<Record<string, Float32Array>> => {
      const network = initNetwork(source, rng(3))
      const tuned = attach(
        network,
        [{ adapter: noisy, at: ['blocks.*.mlp.router', 'blocks.*.mlp.{shared,experts.*}.*'] }],
        rng(1),
      )
      const ids = Array.from(rng(5).numbers(16), (u) => Math.floor(u * 20))
      const inputs = (): Params => ({ ids: tensor(ids, [2, 8], 'int32') })
      const targets = Int32Array.from(ids, (_, i) => (i % 8 === 7 ? -100 : ids[i + 1]!))
      const { loss, grads } = backprop(
        (p): Scalar => nextToken(tuned.run(p, inputs(), { balance: 0.5 }), { shape: [2, 8], targets }),
        tuned.params,
      )
      const all = { ...grads, loss, logits: tuned.forward(tuned.params, inputs()).logits }
      const read: Record<string, Float32Array> = {}
      for (const [name, t] of Object.entries(all)) read[name] = (await t.data()) as Float32Array
      return read
    }
    await wasm()
    const want = await run()
    await nodeWebgpu()
    const found = await run()
    expect(Object.keys(found)).toEqual(Object.keys(want))
    for (const [name, v] of Object.entries(found))
      expect(distance(v, want[name]!), name).toBeLessThan(1e-3 * Math.max(largest(want[name]!), 1e-2))
  },
  120_000,
)
