import { loadMini, miniFolder } from '@weftjs/mini'
import { checkpointOf, loadNetwork, loadTokenizer, namesOf, type TransformerConfig } from '@weftjs/model'
import type { Config, Network, Tensor } from '@weftjs/spec'
import { wasm } from '@weftjs/tensor'
import { blobSink, type Folder, fromBytes, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { fixtureFolder } from '@weftjs/testkit/fixtures'
import { beforeAll, describe, expect, it } from 'vitest'
import { ggufFolder } from '../src/gguf/folder.ts'
import {
  checkpointSources,
  type GgufModelOptions,
  ggufModel,
  ggufPacked,
  saveGguf,
  tokenizerFiles,
} from '../src/gguf/model.ts'
import { openGguf } from '../src/gguf/reader.ts'
import { type GgufFile, writeGguf } from '../src/gguf/writer.ts'
import { fromPacked, gguf } from '../src/index.ts'

beforeAll(async () => {
  await wasm()
})

const bytesOf = async (file: GgufFile): Promise<Uint8Array> => {
  const sink = blobSink()
  await writeGguf(sink, file)
  return new Uint8Array(await sink.blob().arrayBuffer())
}
const reopened = async (options: GgufModelOptions): Promise<Folder> =>
  ggufFolder(fromBytes(await bytesOf(ggufModel(options)), 'x.gguf'))

/** what a network computes with, without where it came from */
const computed = ({ config }: Network<TransformerConfig>): Partial<TransformerConfig> => {
  const { names: _, source: _source, architecture: _a, rope, ropeLocal, ...rest } = config
  return { ...rest, rope: { theta: rope!.theta }, ...(ropeLocal && { ropeLocal: { theta: ropeLocal.theta } }) }
}
const valuesOf = (network: Network<TransformerConfig>): Record<string, Float32Array> => ({
  ...Object.fromEntries(Object.entries(network.weights).map(([n, w]) => [n, w.dense().dataSync() as Float32Array])),
  ...Object.fromEntries(Object.entries(network.vectors).map(([n, t]) => [n, t.dataSync() as Float32Array])),
})
const expectSame = (got: Network<TransformerConfig>, want: Network<TransformerConfig>, tolerance = 0): void => {
  const [a, b] = [valuesOf(got), valuesOf(want)]
  expect(Object.keys(a).sort()).toEqual(Object.keys(b).sort())
  for (const [name, values] of Object.entries(b)) {
    const worst = values.reduce((m, v, i) => Math.max(m, Math.abs(v - a[name]![i]!)), 0)
    expect(worst, name).toBeLessThanOrEqual(tolerance)
    expect(a[name]!.length, name).toBe(values.length)
  }
}

describe('a model of transformers', () => {
  const heads = { query_pre_attn_scalar: 16 }
  it.each<[string, Config]>([
    ['llama', {}],
    ['llama-biased', {}],
    ['llama3', {}],
    ['llama-linear-rope', {}],
    ['llama-yarn-rope', {}],
    ['llama-dynamic-rope', {}],
    ['llama-sharded-bf16', {}],
    ['smollm2', {}],
    ['qwen2', {}],
    ['qwen3', {}],
    ['gemma', {}],
    ['gemma2', heads],
    ['gemma3_text', { ...heads, layer_types: undefined, sliding_window_pattern: 3, num_hidden_layers: 4 }],
  ])('%s goes into a GGUF file and comes back the same', async (name, changes) => {
    const folder = fixtureFolder(`models/${name}`)
    const config = { ...(JSON.parse(await folder.text('config.json')) as Config), ...changes }
    const altered: Folder = {
      ...folder,
      text: async (file) => (file === 'config.json' ? JSON.stringify(config) : folder.text(file)),
    }
    const network = await loadNetwork(altered)
    const checkpoint = await openCheckpoint(folder)
    const back = await loadNetwork(await reopened({ config, tensors: checkpointSources(checkpoint), mix: 'F32' }))
    await checkpoint.close()
    // 1 is added to the scales of Gemma's norms and taken off again
    expectSame(back, network, network.config.normOffset ? 2 ** -23 : 0)
    const [a, b] = [computed(back), computed(network)]
    if (name === 'llama-dynamic-rope') expect(back.config.rope?.scaling).toBeUndefined()
    else if (network.config.rope?.scaling?.['factor'] !== undefined)
      expect(back.config.rope?.scaling).toMatchObject({
        rope_type: network.config.rope.scaling['rope_type'],
        factor: network.config.rope.scaling['factor'],
        ...(network.config.rope.scaling['original_max_position_embeddings'] !== undefined && {
          original_max_position_embeddings: network.config.rope.scaling['original_max_position_embeddings'],
        }),
      })
    else expect(back.config.rope?.scaling).toBeUndefined()
    expect({ ...a, eps: 0 }).toEqual({ ...b, eps: 0 })
    expect(a.eps).toBeCloseTo(b.eps!, 10)
  })

  it('mistral becomes a llama whose context is its window', async () => {
    const folder = fixtureFolder('models/mistral')
    const config = JSON.parse(await folder.text('config.json')) as Config
    const network = await loadNetwork(folder)
    const checkpoint = await openCheckpoint(folder)
    const back = await loadNetwork(await reopened({ config, tensors: checkpointSources(checkpoint), mix: 'F32' }))
    expectSame(back, network)
    expect(back.config.architecture).toBe('llama')
    expect(back.config.maxLength).toBe(network.config.window)
  })

  it('is refused where llama.cpp would compute something else', async () => {
    const folder = fixtureFolder('models/gemma2')
    const config = JSON.parse(await folder.text('config.json')) as Config
    const checkpoint = await openCheckpoint(folder)
    const tensors = checkpointSources(checkpoint)
    await checkpoint.close()
    expect(() => ggufModel({ config, tensors })).toThrow(/query_pre_attn_scalar: is 24, and llama.cpp computes with 16/)
    expect(() => ggufModel({ config: { ...config, model_type: 'bert' }, tensors })).toThrow(/"bert" is not exported/)
    expect(() => ggufModel({ config: { ...config, ...heads }, tensors, mix: 'Q9' })).toThrow(
      /no GGUF mix 'Q9'; there are F32/,
    )
    const odd = [...tensors, { name: 'adapter.weight', dtype: 'F32' as const, shape: [1], data: new Uint8Array(4) }]
    expect(() => ggufModel({ config: { ...config, ...heads }, tensors: odd })).toThrow(
      /"adapter.weight".*no place for it/,
    )
    const sink = { log: [] as string[], write() {}, close() {}, abort: () => void sink.log.push('abort') }
    await expect(saveGguf(sink, { config, tensors })).rejects.toThrow()
    expect(sink.log).toEqual(['abort'])
  })

  it('names the tensor and the place of a number that its type cannot hold', async () => {
    const config: Config = {
      model_type: 'llama',
      hidden_size: 32,
      num_attention_heads: 2,
      num_hidden_layers: 1,
      intermediate_size: 32,
    }
    const values = new Float32Array(3 * 32)
    values[70] = Number.NaN
    const tensors = [
      { name: 'model.embed_tokens.weight', dtype: 'F32' as const, shape: [3, 32], data: new Uint8Array(values.buffer) },
    ]
    await expect(bytesOf(ggufModel({ config, tensors, mix: 'Q8_0' }))).rejects.toThrow(
      /model.embed_tokens.weight: element 70 is NaN, which Q8_0 cannot hold/,
    )
    values[70] = 1e6
    await expect(bytesOf(ggufModel({ config, tensors, mix: 'F16' }))).rejects.toThrow(
      /element 70 is 1000000, which F16/,
    )
  })
})

const raw = (t: Tensor): Uint8Array => new Uint8Array((t.dataSync() as Int32Array).slice().buffer)

describe('mini', () => {
  const exported = async (mix: string): Promise<{ bytes: Uint8Array; network: Network<TransformerConfig> }> => {
    const { network } = await loadMini()
    const { config, tensors } = checkpointOf(network, { dtype: 'F32' })
    const tokenizer = (await tokenizerFiles(miniFolder()))!
    return { network, bytes: await bytesOf(ggufModel({ config, tensors, tokenizer, mix, name: 'mini' })) }
  }

  it('keeps its tokenizer, chat template and the ids that end an answer', async () => {
    const { bytes } = await exported('F16')
    const [ours, back] = [await loadTokenizer(miniFolder()), await loadTokenizer(await ggufFolder(fromBytes(bytes)))]
    for (const text of [
      'Once upon a time',
      "It's 1234 o'clock,\n\n  said  the  <|im_start|>dog\t!",
      'Žluťoučký 🐶 kůň 二',
      '',
    ])
      expect(back.encode(text), text).toEqual(ours.encode(text))
    const messages = [{ role: 'user', content: 'Hello there' }]
    expect(back.chat!(messages, { generationPrompt: true })).toBe(ours.chat!(messages, { generationPrompt: true }))
    expect(back.ends).toEqual(ours.ends)
    expect([back.bos, back.eos, back.pad, back.vocabulary]).toEqual([ours.bos, ours.eos, ours.pad, ours.vocabulary])
    expect([...back.specials].sort()).toEqual([...ours.specials].sort())
  })

  it.each(['Q8_0', 'Q4_0', 'Q4_K_M'])('in %s stays packed when read, rows in our order', async (mix) => {
    const { bytes, network } = await exported(mix)
    const back = await loadNetwork(await ggufFolder(fromBytes(bytes)), { packed: fromPacked })
    const file = await openGguf(fromBytes(bytes))
    for (const [name, weight] of Object.entries(back.weights)) {
      expect(weight.format, name).toBe('gguf')
      if (!/^blocks\.[03]\.(attn\.[qv]|mlp\.down)$/.test(name)) continue
      const type = weight.codec!.options!['type'] as 'Q8_0'
      const codec = gguf({ type })
      const w = network.weights[name]!.dense()
      const { q } = codec.encode(w)
      expect(Buffer.compare(raw(weight.parts['q']!), raw(q!)), name).toBe(0)
    }
    // 640 is no whole number of blocks of 256
    if (mix === 'Q4_K_M') {
      expect(file.tensors.get('blk.0.attn_q.weight')!.type).toBe('Q4_K')
      expect(file.tensors.get('blk.3.attn_v.weight')!.type).toBe('Q6_K')
      expect(file.tensors.get('blk.0.ffn_down.weight')!.type).toBe('Q5_0')
      expect(file.tensors.get('blk.3.ffn_down.weight')!.type).toBe('Q8_0')
      expect(file.tensors.get('token_embd.weight')!.type).toBe('Q6_K')
    }
  })

  it('is written byte for byte as it was read, from the folder and from the network', async () => {
    const { bytes } = await exported('Q4_K_M')
    const folder = await ggufFolder(fromBytes(bytes))
    const config = JSON.parse(await folder.text('config.json')) as Config
    const tokenizer = (await tokenizerFiles(folder))!
    const first = await openGguf(fromBytes(bytes))
    const expectBytes = async (made: Uint8Array): Promise<void> => {
      const second = await openGguf(fromBytes(made))
      for (const [name, { type, shape }] of first.tensors) {
        expect(second.tensors.get(name), name).toMatchObject({ type, shape })
        expect(Buffer.compare(await second.read(name), await first.read(name)), name).toBe(0)
      }
      const fields = (of: typeof first) => Object.fromEntries(of.metadata)
      expect(fields(second)).toEqual(fields(first))
    }
    const checkpoint = await openCheckpoint(folder)
    await expectBytes(
      await bytesOf(ggufModel({ config, tensors: checkpointSources(checkpoint), tokenizer, name: 'mini' })),
    )
    const network = await loadNetwork(folder, { packed: fromPacked })
    const packed = await ggufPacked(network, [...namesOf(network.config)])
    const kept = checkpointOf(network, { packed: packed! })
    await expectBytes(await bytesOf(ggufModel({ ...kept, tokenizer, name: 'mini' })))
  })

  it('is refused without what is needed, with the field of the metadata', async () => {
    const { bytes } = await exported('F16')
    const file = await openGguf(fromBytes(bytes))
    const without = async (change: (metadata: Map<string, never>) => void): Promise<Folder> => {
      const metadata = new Map(file.metadata) as Map<string, never>
      change(metadata)
      const tensors = [...file.tensors.values()].map((t) => ({ ...t, data: () => file.read(t.name) }))
      return ggufFolder(fromBytes(await bytesOf({ metadata, tensors }), 'x.gguf'))
    }
    const put = (key: string, type: string, value: unknown) => (m: Map<string, never>) =>
      void m.set(key, { type, value } as never)
    await expect(without((m) => m.delete('llama.block_count'))).rejects.toThrow(
      /x.gguf: metadata llama.block_count: is not there/,
    )
    await expect(without(put('general.architecture', 'string', 'rwkv'))).rejects.toThrow(
      /"rwkv" is not supported; llama/,
    )
    await expect(without(put('general.architecture', 'u8', 3))).rejects.toThrow(
      /of type u8, where a string is expected/,
    )
    await expect(without(put('llama.expert_count', 'u32', 8))).rejects.toThrow(/expert_used_count: is not there/)
    await expect(without(put('llama.rope.dimension_count', 'u32', 32))).rejects.toThrow(/partial rotary/)
    await expect(without(put('split.count', 'u16', 3))).rejects.toThrow(/in 3 files and 1 were given/)
    await expect(without(put('llama.attention.head_count', 'u32', 7))).rejects.toThrow(/no heads|are not 7 heads/)
    const other = await without(put('tokenizer.ggml.pre', 'string', 'no-such'))
    await expect(loadTokenizer(other)).rejects.toThrow(/"no-such" is not known; put the model's tokenizer.json beside/)
    const t5 = await without(put('tokenizer.ggml.model', 'string', 't5'))
    await expect(loadTokenizer(t5)).rejects.toThrow(/"t5": tokenizers of this kind are not read/)
    const beside = await ggufFolder(fromBytes(bytes), { beside: miniFolder() })
    expect(JSON.parse(await beside.text('tokenizer.json'))).toEqual(
      JSON.parse(await miniFolder().text('tokenizer.json')),
    )
    expect(JSON.parse(await beside.text('config.json'))).toMatchObject({ head_dim: 64 })
  })
})

describe('a tokenizer', () => {
  it.each(['byte-level', 'metaspace'])('%s comes back as it was', async (kind) => {
    const folder = fixtureFolder(`tokenizers/${kind}`)
    const ours = await loadTokenizer(folder)
    const size = ours.vocabulary + 3
    const config: Config = {
      model_type: 'qwen2',
      hidden_size: 8,
      num_attention_heads: 1,
      num_hidden_layers: 1,
      intermediate_size: 8,
      tie_word_embeddings: true,
    }
    const tensors = [
      { name: 'model.embed_tokens.weight', dtype: 'F32' as const, shape: [size, 8], data: new Uint8Array(32 * size) },
    ]
    const tokenizer = (await tokenizerFiles(folder))!
    const back = await loadTokenizer(await reopened({ config, tensors, tokenizer, mix: 'F32' }))
    const { texts } = JSON.parse(await folder.text('expected.json')) as { texts?: Record<string, unknown>[] }
    const tried = [
      ...(texts ?? []).map((t) => String(t['text'] ?? '')),
      'The quick brown fox, it jumped over 2 lazy dogs!',
      '  two  spaces and\ttabs\n',
      'žluť 二三 🦊',
      'a<|user|>b',
    ]
    for (const text of tried) {
      expect(back.encode(text), JSON.stringify(text)).toEqual(ours.encode(text))
      expect(back.decode(back.encode(text, { special: false })), text).toBe(
        ours.decode(ours.encode(text, { special: false })),
      )
    }
  })

  it('of another kind is refused with the way out', async () => {
    const folder = fixtureFolder('tokenizers/wordpiece')
    const config: Config = {
      model_type: 'qwen2',
      hidden_size: 8,
      num_attention_heads: 1,
      num_hidden_layers: 1,
      intermediate_size: 8,
    }
    const tensors = [
      { name: 'model.embed_tokens.weight', dtype: 'F32' as const, shape: [999, 8], data: new Uint8Array(32 * 999) },
    ]
    const tokenizer = (await tokenizerFiles(folder))!
    expect(() => ggufModel({ config, tensors, tokenizer })).toThrow(/its model is "WordPiece"; only BPE/)
    const mini = (await tokenizerFiles(miniFolder()))!
    const strange = { ...mini, tokenizer: { ...mini.tokenizer, pre_tokenizer: { type: 'Whitespace' } } }
    const enough = [{ ...tensors[0]!, shape: [4096, 8], data: new Uint8Array(32 * 4096) }]
    expect(() => ggufModel({ config, tensors: enough, tokenizer: strange })).toThrow(
      /none that llama.cpp has a name for; say/,
    )
    expect(() => ggufModel({ config, tensors: enough, tokenizer: strange, pre: 'qwen2' })).not.toThrow()
    expect(() => ggufModel({ config, tensors, tokenizer: mini })).toThrow(/has the id \d+, and the embedding 999 rows/)
  })
})
