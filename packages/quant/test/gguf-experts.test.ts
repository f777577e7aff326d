import { calibrate, checkpointOf, initNetwork, loadNetwork, namesOf, type TransformerConfig } from '@weftjs/model'
import type { Config, Network } from '@weftjs/spec'
import { cpu, rng } from '@weftjs/tensor'
import { blobSink, fromBytes, type TensorSource } from '@weftjs/tensor/checkpoint'
import { beforeAll, describe, expect, it } from 'vitest'
import { ggufFolder } from '../src/gguf/folder.ts'
import { ggufImportance } from '../src/gguf/imatrix.ts'
import { ggufModel, ggufPacked } from '../src/gguf/model.ts'
import { writeGguf } from '../src/gguf/writer.ts'
import { fromPacked, gguf } from '../src/index.ts'

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

const all = async (data: TensorSource['data']): Promise<Uint8Array> => {
  const given = await (typeof data === 'function' ? data() : data)
  const parts: Uint8Array[] = []
  for await (const part of given instanceof Uint8Array ? [given] : given) parts.push(part.slice())
  return new Uint8Array(Buffer.concat(parts))
}

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

  /** all experts in one tensor, as transformers has them */
  const fusedOf = async (tensors: readonly TensorSource[]): Promise<TensorSource[]> => {
    const fused = tensors.filter((t) => !/\.experts\./.test(t.name))
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
            own.push(await all(t.data))
            shape = [3, parts.length * t.shape[0]!, t.shape[1]!]
          }
        fused.push({
          ...{ name: `model.layers.${layer}.mlp.experts.${name}`, dtype: 'F32', shape },
          data: new Uint8Array(Buffer.concat(own)),
        })
      }
    return fused
  }

  it('may come from a checkpoint that has them in one tensor', async () => {
    const { config: out, tensors } = checkpointOf(made())
    const [a, b] = [
      await bytesOf(out, await fusedOf(tensors), { mix: 'Q8_0' }),
      await bytesOf(out, tensors, { mix: 'Q8_0' }),
    ]
    expect(valuesOf(await opened(a))).toEqual(valuesOf(await opened(b)))
  })

  it('are weighed by what each reads of the tokens that are sent to it', async () => {
    const network = made()
    const names = namesOf(network.config)
    const ids = Array.from(rng(5).numbers(24), (u) => Math.floor(u * 24))
    const batch = { shape: [2, 12] as const, ids: Int32Array.from(ids), targets: Int32Array.from(ids) }
    const rest = { positions: new Int32Array(24).map((_, i) => i % 12), segments: new Int32Array(24).fill(1) }
    const seen = await calibrate(network, [{ ...batch, ...rest }], { statistics: ['square'] })
    // one that no token came to
    const { 'blocks.1.mlp.experts.2.gate': _, ...some } = seen
    const { config: out, tensors } = checkpointOf(network)
    const importance = await ggufImportance(some, names, out)
    for (const [part, width] of [
      ['gate', 32],
      ['up', 32],
      ['down', 64],
    ] as const)
      for (let e = 0; e < 3; e++) {
        const own = some[`blocks.1.mlp.experts.${e}.${part}`]
        const columns = importance[`blk.1.ffn_${part}_exps.weight`]!.subarray(e * width, (e + 1) * width)
        const want = own ? await own.get('square').data() : new Float32Array(width).fill(1)
        expect([...columns], `${part} of expert ${e}`).toEqual([...want])
      }
    const made1 = ggufModel({ config: out, tensors, mix: 'Q4_0', importance })
    const found = made1.tensors.find((t) => t.name === 'blk.1.ffn_up_exps.weight')!
    expect(found.type).toBe('Q4_0')
    const each = [0, 1, 2].map((e) => {
      const site = `blocks.1.mlp.experts.${e}.up`
      const codec = gguf({ type: 'Q4_0', importance: true })
      const { q } = codec.encode(network.weights[site]!.dense(), seen[site]!)
      return new Uint8Array((q.dataSync() as Int32Array).slice().buffer)
    })
    expect(await all(found.data)).toEqual(new Uint8Array(Buffer.concat(each)))
    const plain = ggufModel({ config: out, tensors, mix: 'Q4_0' }).tensors.find((t) => t.name === found.name)!
    expect(await all(plain.data)).not.toEqual(await all(found.data))
    // the same where a checkpoint has them in one tensor
    const fused = ggufModel({ config: out, tensors: await fusedOf(tensors), mix: 'Q4_0', importance })
    for (const name of ['blk.1.ffn_gate_exps.weight', 'blk.1.ffn_up_exps.weight', 'blk.0.ffn_down_exps.weight']) {
      const [a, b] = [made1, fused].map((f) => f.tensors.find((t) => t.name === name)!)
      expect(await all(a!.data), name).toEqual(await all(b!.data))
    }
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
