import { checkpointOf, initNetwork, loadNetwork, namesOf, type TransformerConfig } from '@weftjs/model'
import type { Config, Network } from '@weftjs/spec'
import { cpu, rng } from '@weftjs/tensor'
import { blobSink, fromBytes, type TensorSource } from '@weftjs/tensor/checkpoint'
import { beforeAll, describe, expect, it } from 'vitest'
import { ggufFolder } from '../src/gguf/folder.ts'
import { ggufModel, ggufPacked } from '../src/gguf/model.ts'
import { writeGguf } from '../src/gguf/writer.ts'
import { fromPacked } from '../src/index.ts'

beforeAll(async () => {
  await cpu()
})

const sizes: Config = {
  ...{ hidden_size: 32, intermediate_size: 64, moe_intermediate_size: 64, num_hidden_layers: 2, vocab_size: 24 },
  ...{ num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16, max_position_embeddings: 64 },
  ...{ num_experts: 3, num_experts_per_tok: 2, tie_word_embeddings: false },
}
const MODELS: Readonly<Record<string, Config>> = {
  mixtral: { ...sizes, model_type: 'mixtral', num_local_experts: 3, sliding_window: null },
  qwen2_moe: { ...sizes, model_type: 'qwen2_moe', shared_expert_intermediate_size: 96, norm_topk_prob: false },
  qwen3_moe: { ...sizes, model_type: 'qwen3_moe', norm_topk_prob: true },
}
type Options = Omit<Parameters<typeof ggufModel>[0], 'config' | 'tensors'>
const bytesOf = async (config: Config, tensors: readonly TensorSource[], options: Options): Promise<Uint8Array> => {
  const sink = blobSink()
  await writeGguf(sink, ggufModel({ config, tensors, ...options }))
  return new Uint8Array(await sink.blob().arrayBuffer())
}
const opened = async (bytes: Uint8Array): Promise<Network<TransformerConfig>> =>
  loadNetwork(await ggufFolder(fromBytes(bytes, 'x.gguf')), { packed: fromPacked })
const valuesOf = (network: Network<TransformerConfig>): Record<string, Float32Array> =>
  Object.fromEntries([
    ...Object.entries(network.weights).map(([n, w]) => [n, w.dense().dataSync()]),
    ...Object.entries(network.vectors).map(([n, t]) => [n, t.dataSync()]),
  ])

describe.each(Object.entries(MODELS))('experts of %s in GGUF', (_, config) => {
  const made = (): Network<TransformerConfig> => initNetwork(config, rng(3))

  it('lie in one tensor, and come back each as it was', async () => {
    const network = made()
    const { config: out, tensors } = checkpointOf(network)
    const file = ggufModel({ config: out, tensors, mix: 'F32' })
    const shapes = Object.fromEntries(file.tensors.map((t) => [t.name, t.shape]))
    expect(shapes['blk.1.ffn_gate_exps.weight']).toEqual([3, 64, 32])
    expect(shapes['blk.1.ffn_down_exps.weight']).toEqual([3, 32, 64])
    expect(shapes['blk.0.ffn_gate_inp.weight']).toEqual([3, 32])
    expect(valuesOf(await opened(await bytesOf(out, tensors, { mix: 'F32' })))).toEqual(valuesOf(network))
  })

  it('are quantized one by one, and written again as they are', async () => {
    const { config: out, tensors } = checkpointOf(made())
    const bytes = await bytesOf(out, tensors, { mix: 'Q8_0' })
    const network = await opened(bytes)
    expect(network.weights['blocks.1.mlp.experts.2.down']!.codec).toMatchObject({ options: { type: 'Q8_0' } })
    expect(network.weights['blocks.1.mlp.router']!.codec).toBeUndefined()
    const packed = (await ggufPacked(network, namesOf(network.config)))!
    const again = checkpointOf(network, { packed })
    const file = await bytesOf(again.config, again.tensors, {})
    expect(valuesOf(await opened(file))).toEqual(valuesOf(network))
  })

  it('may come from a checkpoint that has them in one tensor', async () => {
    const { config: out, tensors } = checkpointOf(made())
    const bytes = async ({ data }: TensorSource): Promise<Uint8Array> => {
      const given = await (typeof data === 'function' ? data() : data)
      const parts: Uint8Array[] = []
      for await (const part of given instanceof Uint8Array ? [given] : given) parts.push(part)
      return new Uint8Array(Buffer.concat(parts))
    }
    const single = tensors.filter((t) => !/\.experts\./.test(t.name))
    const fused: TensorSource[] = []
    for (const layer of [0, 1])
      for (const [name, parts] of [
        ['gate_up_proj', [/\.(w1|gate_proj)\.weight$/, /\.(w3|up_proj)\.weight$/]],
        ['down_proj', [/\.(w2|down_proj)\.weight$/]],
      ] as const) {
        const own: Uint8Array[] = []
        let shape: readonly number[] = []
        for (let e = 0; e < 3; e++)
          for (const part of parts) {
            const t = tensors.find(
              (t) => t.name.includes(`layers.${layer}.`) && t.name.includes(`experts.${e}.`) && part.test(t.name),
            )!
            own.push(await bytes(t))
            shape = [3, parts.length * t.shape[0]!, t.shape[1]!]
          }
        fused.push({
          ...{ name: `model.layers.${layer}.mlp.experts.${name}`, dtype: 'F32', shape },
          data: new Uint8Array(Buffer.concat(own)),
        })
      }
    const [a, b] = [
      await bytesOf(out, [...single, ...fused], { mix: 'Q8_0' }),
      await bytesOf(out, tensors, { mix: 'Q8_0' }),
    ]
    expect(valuesOf(await opened(a))).toEqual(valuesOf(await opened(b)))
  })

  it('that are missing, or computed otherwise by llama.cpp, are refused', () => {
    const { config: out, tensors } = checkpointOf(made())
    const some = tensors.filter((t) => !/layers\.1\..*experts\.2\./.test(t.name))
    expect(() => ggufModel({ config: out, tensors: some })).toThrow(/has no expert 2 beside it, of 3/)
    if (config['model_type'] === 'mixtral') return
    expect(() => ggufModel({ config: { ...out, norm_topk_prob: !out['norm_topk_prob'] }, tensors })).toThrow(
      /norm_topk_prob: llama.cpp computes qwen\dmoe as if it were/,
    )
    expect(() => ggufModel({ config: { ...out, decoder_sparse_step: 2 }, tensors })).toThrow(/experts in every layer/)
  })
})
