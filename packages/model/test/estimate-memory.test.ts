import { adamw, train } from '@weftjs/optim'
import { nf4, quantize } from '@weftjs/quant'
import type { Batch, Network } from '@weftjs/spec'
import { cpu, memory, peakBytes, rng, tensor, tidy } from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import {
  type Attachment,
  type AttachOptions,
  attach,
  type EstimateMemoryOptions,
  estimateMemory,
  initNetwork,
  inputsOf,
  nextToken,
  type TransformerConfig,
} from '../src/index.ts'

await cpu()
const source = (layers: number, more: object = {}) => ({
  ...{ model_type: 'llama', vocab_size: 96, hidden_size: 32, num_hidden_layers: layers, num_attention_heads: 4 },
  ...{ num_key_value_heads: 2, intermediate_size: 80, max_position_embeddings: 64, tie_word_embeddings: true },
  ...more,
})
const lora = {
  name: 'lora',
  init: (site: any, { rng }: any) => ({
    state: { a: rng.normal([4, site.in], 0.1), b: rng.normal([site.out, 4], 0.01) },
  }),
  weight: (base: any, { a, b }: any) => sum(base, scale(2, lowRank(b, a))),
}
const [B, T] = [4, 24]
const batch: Batch = (() => {
  const of = (f: (i: number) => number): Int32Array => Int32Array.from({ length: B * T }, (_, i) => f(i))
  return {
    ...{ shape: [B, T] as const, ids: of((i) => (i * 5) % 96), targets: of((i) => (i * 5 + 5) % 96) },
    ...{ positions: of((i) => i % T), segments: of(() => 1) },
  }
})()

interface Case {
  readonly layers?: number
  readonly network?: () => Promise<Network<TransformerConfig>>
  readonly at?: readonly Attachment[]
  readonly train?: AttachOptions
  readonly more?: Partial<EstimateMemoryOptions>
}
const everywhere: readonly Attachment[] = [{ adapter: lora as any, at: 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}' }]
const packed = async (layers: number): Promise<Network<TransformerConfig>> =>
  quantize(initNetwork(source(layers), rng(1)), nf4({ block: 32 }), { consume: true }) as Promise<
    Network<TransformerConfig>
  >
const CASES: Record<string, Case> = {
  LoRA: { at: everywhere },
  'LoRA in 12 blocks': { at: everywhere, layers: 12 },
  'LoRA, given away': { at: everywhere, more: { consume: true } },
  'LoRA by recompute': { at: everywhere, layers: 8, more: { recompute: true } },
  'LoRA in two batches a step': { at: everywhere, more: { accumulate: 2 } },
  'LoRA on the last blocks only': { at: [{ adapter: lora as any, at: 'blocks.{3,4,5}.attn.q' }] },
  'LoRA on every other block': { at: [{ adapter: lora as any, at: 'blocks.{0,2,4}.mlp.up' }] },
  'full tuning': { train: { train: '**' } },
  'full tuning in 12 blocks, given away': { train: { train: '**' }, layers: 12, more: { consume: true } },
  'full tuning by recompute, given away': {
    train: { train: '**' },
    layers: 10,
    more: { consume: true, recompute: true },
  },
  NF4: { at: everywhere, network: () => packed(6) },
  'NF4 by recompute': { at: everywhere, network: () => packed(10), more: { recompute: true, consume: true } },
}

describe('memory of a run before it starts', () => {
  it.each(Object.keys(CASES))('%s: within 10 % of what is then measured', async (name) => {
    const { layers = 6, at = [], train: whole = {}, more = {}, network: make } = CASES[name]!
    const peak = peakBytes()
    const empty = peak.now
    const network = make ? await make() : initNetwork(source(layers), rng(1))
    const tuned = attach(network, at, rng(2), whole)
    const transform = adamw({ lr: 1e-3 })
    peak.reset()
    tidy(() => void tuned.forward(tuned.params, { ids: tensor(batch.ids, [B, T], 'int32') })) // tables of positions
    peak.reset()
    const [before, numTensors] = [peak.bytes, memory().numTensors]
    const values = Object.values(tuned.params).map((p) => p.dataSync().slice())
    const estimated = await estimateMemory(tuned, { transform, batch, ...more })
    // nothing is disturbed: no tensor is left, no value moved, no peak seen
    expect(memory().numTensors).toBe(numTensors)
    expect(peak.bytes).toBe(before)
    Object.values(tuned.params).forEach((p, i) => {
      expect(p.dataSync()).toEqual(values[i])
    })
    expect(estimated.bytes).toBe(estimated.network + estimated.adapters + estimated.run)
    const { recompute = false, accumulate = 1, consume = false } = more
    peak.reset()
    for await (const _ of train<Batch>({
      ...{
        params: tuned.params,
        transform,
        accumulate,
        consume,
        steps: 3,
        data: Array<Batch>(3 * accumulate).fill(batch),
      },
      loss: (p, b, { rng }) => nextToken(tuned.run(p, inputsOf(b), { training: true, rng, recompute }), b),
    })) {
    }
    const measured = peak.bytes - empty
    expect(Math.abs(estimated.bytes / measured - 1)).toBeLessThan(0.1)
  })

  it('knows a batch by its shape', async () => {
    const tuned = attach(initNetwork(source(3), rng(1)), everywhere, rng(2))
    const transform = adamw({ lr: 1e-3 })
    const [a, b, c] = [
      await estimateMemory(tuned, { transform, batch }),
      await estimateMemory(tuned, { transform, batch: [B, T] }),
      await estimateMemory(tuned, { transform, batch: [2 * B, T] }),
    ]
    expect(b.bytes).toBe(a.bytes)
    expect(c.run).toBeGreaterThan(1.8 * a.run - a.adapters * 4)
    expect(c.network).toBe(a.network)
  })
})
