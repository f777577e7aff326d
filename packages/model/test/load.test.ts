import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Network } from '@weftjs/spec'
import { cpu, memory, rng } from '@weftjs/tensor'
import {
  blobFolder,
  type Folder,
  fromBytes,
  openSafetensors,
  type TensorBytes,
  toSafetensors,
} from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { architectureOf, architectures } from '../src/architectures/index.ts'
import { attach, loadNetwork, type TransformerConfig } from '../src/index.ts'
import { openModel } from '../src/node.ts'
import { distance, families, fixture, models } from './fixture.ts'

await cpu()
type Tensors = Record<string, TensorBytes>

const tensorsOf = async (name: string): Promise<Tensors> => {
  const file = await openSafetensors(fromBytes(await readFile(`${models}${name}/model.safetensors`)))
  return Object.fromEntries(await Promise.all(file.names.map(async (n) => [n, await file.read(n)] as const)))
}
const configOf = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(`${models}${name}/config.json`, 'utf8'))
const folderOf = (config: unknown, tensors: Tensors | Uint8Array): Folder =>
  blobFolder(
    new Map([
      ['config.json', new Blob([typeof config === 'string' ? config : JSON.stringify(config)])],
      ['model.safetensors', new Blob([(tensors instanceof Uint8Array ? tensors : toSafetensors(tensors)) as BlobPart])],
    ]),
    'the folder',
  )
const renamed = (tensors: Tensors, f: (name: string) => string): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([n, t]) => [f(n), t]))

const same = (a: Network<TransformerConfig>, b: Network<TransformerConfig>): void => {
  expect(Object.keys(a.weights).sort()).toEqual(Object.keys(b.weights).sort())
  expect(Object.keys(a.vectors).sort()).toEqual(Object.keys(b.vectors).sort())
  for (const n of Object.keys(a.weights))
    expect(distance(a.weights[n]!.dense().dataSync(), b.weights[n]!.dense().dataSync()), n).toBe(0)
}

describe('spellings', () => {
  it.each([
    ['llama', 'model.', ''],
    ['gemma3_text', 'model.', 'language_model.model.'],
    ['gemma3_text', 'model.', 'model.language_model.'],
    ['gpt2', 'transformer.', ''],
    ['bert', 'bert.', ''],
    ['bert-model', '', 'bert.'],
    ['roberta', 'roberta.', ''],
    ['vit', 'vit.', ''],
  ])('%s loads with %j written %j', async (name, piece, instead) => {
    const { network } = await fixture(name)
    const config = configOf(name)
    const wrapped =
      name === 'gemma3_text'
        ? { model_type: 'gemma3', architectures: ['Gemma3ForConditionalGeneration'], text_config: config }
        : config
    const tensors = renamed(await tensorsOf(name), (n) => (n.startsWith(piece) ? instead + n.slice(piece.length) : n))
    same(await loadNetwork(folderOf(wrapped, tensors)), network)
  })

  it("bert's first checkpoints wrote gamma and beta", async () => {
    const { network } = await fixture('bert')
    const tensors = renamed(await tensorsOf('bert'), (n) =>
      n.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta'),
    )
    same(await loadNetwork(folderOf(configOf('bert'), tensors)), network)
  })

  it('a multimodal Gemma 3 says which tensors it has no place for', async () => {
    const tensors = renamed(await tensorsOf('gemma3_text'), (n) => `language_model.${n}`)
    tensors['vision_tower.patch.weight'] = { dtype: 'F32', shape: [1], data: new Uint8Array(4) }
    const ignored: string[] = []
    const config = { model_type: 'gemma3', text_config: configOf('gemma3_text') }
    const network = await loadNetwork(folderOf(config, tensors), { onIgnored: (n) => ignored.push(...n) })
    expect(ignored).toEqual(['vision_tower.patch.weight'])
    expect(network.config.source['model_type']).toBe('gemma3_text')
  })

  it('a base model has no head, and says so', async () => {
    const tensors = renamed(await tensorsOf('llama'), (n) => n.replace('model.', ''))
    delete tensors['lm_head.weight']
    const network = await loadNetwork(folderOf({ ...configOf('llama'), architectures: ['LlamaModel'] }, tensors))
    const { network: whole, reference, int } = await fixture('llama')
    const inputs = { ids: await int('input_ids') }
    const pass = attach(network, [], rng(0)).run({}, inputs)
    expect(distance(pass.hidden.dataSync(), await reference.floats('last_hidden_state'))).toBeLessThan(1e-4)
    expect(() => pass.head(pass.hidden)).toThrow(/base model without a head/)
    expect(network.weights['head']).toBeUndefined()
    expect(whole.weights['head']).toBeDefined()
  })

  it('a RoBERTa without its head and its pooler still gives its hidden states', async () => {
    const tensors = Object.fromEntries(
      Object.entries(await tensorsOf('roberta')).flatMap(([n, t]) =>
        n.startsWith('roberta.') ? [[n.slice('roberta.'.length), t]] : [],
      ),
    )
    const network = await loadNetwork(folderOf({ ...configOf('roberta'), architectures: ['RobertaModel'] }, tensors))
    const { reference, int } = await fixture('roberta')
    const mask = await int('attention_mask')
    const pass = attach(network, [], rng(0)).run({}, { ids: await int('input_ids'), mask })
    const seen = mask.dataSync()
    const real = (v: ArrayLike<number>): number[] => Array.from(v).filter((_, i) => seen[Math.floor(i / 32)])
    const want = real(await reference.floats('last_hidden_state'))
    expect(distance(real(pass.hidden.dataSync()), want)).toBeLessThan(1e-4)
    expect(() => pass.head(pass.hidden)).toThrow(/pooler: the network has no such weight/)
  })

  it('BERT with a classifier reads its pooled first token', async () => {
    const base = await tensorsOf('bert-model')
    const tensors = renamed(base, (n) => `bert.${n}`)
    const data = new Uint8Array(Float32Array.from({ length: 96 }, (_, i) => Math.sin(i)).buffer)
    tensors['classifier.weight'] = { dtype: 'F32', shape: [3, 32], data }
    tensors['classifier.bias'] = { dtype: 'F32', shape: [3], data: data.slice(0, 12) }
    const config = { ...configOf('bert-model'), architectures: ['BertForSequenceClassification'], num_labels: 3 }
    const { reference, int } = await fixture('bert-model')
    const inputs = {
      ids: await int('input_ids'),
      mask: await int('attention_mask'),
      types: await int('token_type_ids'),
    }
    const { logits } = attach(await loadNetwork(folderOf(config, tensors)), [], rng(0)).forward({}, inputs)
    const pooled = await reference.floats('pooler_output')
    const want = Array.from({ length: 6 }, (_, i) => {
      const [row, c] = [Math.floor(i / 3), i % 3]
      let sum = Math.sin(c)
      for (let d = 0; d < 32; d++) sum += pooled[row * 32 + d]! * Math.sin(c * 32 + d)
      return sum
    })
    expect(logits.shape).toEqual([2, 3])
    expect(distance(logits.dataSync(), want)).toBeLessThan(1e-4)
  })
})

describe('a checkpoint that is not whole', () => {
  const fails = async (config: unknown, tensors: Tensors | Uint8Array, message: RegExp): Promise<void> => {
    const before = memory().numTensors
    await expect(loadNetwork(folderOf(config, tensors))).rejects.toThrow(message)
    expect(memory().numTensors).toBe(before)
  }
  it('names a missing tensor', async () => {
    const tensors = await tensorsOf('llama')
    delete tensors['model.layers.1.mlp.up_proj.weight']
    await fails(
      configOf('llama'),
      tensors,
      /model\.layers\.1\.mlp\.up_proj\.weight.*not in this checkpoint.*blocks\.1\.mlp\.up/s,
    )
  })
  it('names a tensor of another shape, and both shapes', async () => {
    await fails(
      { ...configOf('llama'), intermediate_size: 40 },
      await tensorsOf('llama'),
      /gate_proj.*\[48,32\].*\[40,32\]/,
    )
    await fails({ ...configOf('gpt2'), n_inner: 64 }, await tensorsOf('gpt2'), /c_fc.*\[32,128\].*\[32,64\]/)
    await fails(
      { ...configOf('vit'), image_size: 64 },
      await tensorsOf('vit'),
      /position_embeddings.*\[1,17,32\].*\[1,65,32\]/,
    )
  })
  it('says how many layers there are', async () => {
    await fails(
      { ...configOf('llama'), num_hidden_layers: 9000 },
      await tensorsOf('llama'),
      /9000 layers, the checkpoint has 2/,
    )
  })
  it('passes over what a shorter config leaves, with a list', async () => {
    const ignored: string[] = []
    const config = { ...configOf('llama'), num_hidden_layers: 1 }
    const network = await loadNetwork(folderOf(config, await tensorsOf('llama')), {
      onIgnored: (n) => ignored.push(...n),
    })
    expect(network.config.layers).toBe(1)
    expect(ignored.every((n) => n.startsWith('model.layers.1.'))).toBe(true)
    expect(ignored).toHaveLength(9)
  })
  it('refuses a truncated file and integers', async () => {
    const tensors = await tensorsOf('llama')
    const whole = toSafetensors(tensors)
    await fails(configOf('llama'), whole.slice(0, whole.length - 100), /the folder\/model\.safetensors/)
    await fails(configOf('llama'), whole.slice(0, 20), /model\.safetensors/)
    const embed = tensors['model.embed_tokens.weight']!
    tensors['model.embed_tokens.weight'] = { ...embed, dtype: 'I32' }
    await fails(configOf('llama'), tensors, /embed_tokens.*I32/)
  })
  it('refuses a config.json that is none', async () => {
    const tensors = await tensorsOf('llama')
    await fails('{"model_type": "lla', tensors, /config\.json: not valid JSON/)
    await fails('[]', tensors, /not a JSON object/)
    await fails({ model_type: 'mamba' }, tensors, /mamba.*supported are llama, mistral.*vit/)
    await expect(loadNetwork(nodeFolder(`${models}nowhere`))).rejects.toThrow(/nowhere.*config\.json/)
    await expect(openModel('./nowhere')).rejects.toThrow(/no such folder/)
    await expect(openModel(`${models}llama/config.json`)).rejects.toThrow(/a file, not a folder/)
  })
  it('stops when it is told to, and leaves no tensor', async () => {
    const stop = new AbortController()
    const before = memory().numTensors
    const loading = loadNetwork(nodeFolder(`${models}llama`), {
      signal: stop.signal,
      onProgress: ({ tensors }) => tensors === 5 && stop.abort(new Error('enough')),
    })
    await expect(loading).rejects.toThrow('enough')
    expect(memory().numTensors).toBe(before)
  })
  it('reports progress to the end', async () => {
    const seen: { tensors: number; of: number; bytes: number }[] = []
    await loadNetwork(nodeFolder(`${models}llama`), { onProgress: (p) => seen.push(p) })
    expect(seen.map((p) => p.tensors)).toEqual(Array.from({ length: 21 }, (_, i) => i + 1))
    expect(seen.at(-1)!.of).toBe(21)
    expect(seen.at(-1)!.bytes).toBeGreaterThan(seen[0]!.bytes)
  })
})

describe('config.json', () => {
  it.each([
    ['llama', { hidden_size: '32' }, /hidden_size must be a whole number/],
    ['llama', { hidden_size: 1e300 }, /hidden_size must be a whole number/],
    ['llama', { num_hidden_layers: 1e9 }, /num_hidden_layers must be a whole number from 1 to 10000, found 1000000000/],
    ['llama', { num_key_value_heads: 3 }, /num_key_value_heads \(3\) must divide/],
    ['llama', { head_dim: 7 }, /head_dim must be even/],
    ['llama', { head_dim: null, num_attention_heads: 5 }, /5 heads do not divide a width of 32/],
    ['llama', { hidden_act: 'mish' }, /hidden_act must be one of silu/],
    ['llama', { tie_word_embeddings: 'yes' }, /tie_word_embeddings must be true or false/],
    ['llama', { rope_parameters: { rope_type: 'longrope', rope_theta: 1e4 } }, /longrope.*supported are default/],
    ['llama', { rope_parameters: { rope_type: 'linear', factor: 'two' } }, /factor must be a number/],
    ['llama', { rope_parameters: { partial_rotary_factor: 0.5 } }, /partial_rotary_factor/],
    ['llama', { architectures: ['LlamaForQuestionAnswering'] }, /LlamaForQuestionAnswering.*supported.*ForCausalLM/],
    ['gemma2', { layer_types: ['full_attention'] }, /layer_types has 1 entries for 2 layers/],
    ['gemma2', { layer_types: ['full_attention', 'chunked'] }, /'chunked' is not supported/],
    ['gemma3_text', { use_bidirectional_attention: true }, /use_bidirectional_attention/],
    ['gpt2', { scale_attn_by_inverse_layer_idx: true }, /scale_attn_by_inverse_layer_idx/],
    ['bert', { position_embedding_type: 'relative_key' }, /position_embedding_type/],
    ['vit', { patch_size: 5 }, /patch_size \(5\) must divide image_size \(32\)/],
  ])('%s with %j is refused by the field', (name, change, message) => {
    const source = { ...configOf(name), ...change }
    expect(() => architectureOf(source).config(source)).toThrow(message)
  })

  it('any value in any field gives a config or an error that names config.json', () => {
    const sources = families.map(configOf)
    const bad = fc.oneof(
      fc.string(),
      fc.double(),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.array(fc.anything()),
      fc.object(),
    )
    fc.assert(
      fc.property(fc.constantFrom(...sources), fc.nat(), bad, (source, at, value) => {
        const keys = Object.keys(source)
        const changed = { ...source, [keys[at % keys.length]!]: value }
        try {
          const c = architectureOf(changed).config(changed)
          expect(Number.isInteger(c.width) && c.layers <= 10_000).toBe(true)
        } catch (error) {
          expect((error as Error).message).toMatch(/^config\.json: /)
        }
      }),
      { numRuns: 2000 },
    )
  })

  it('reads the older spellings of rope settings', () => {
    const { rope_parameters: _, ...llama } = configOf('llama3')
    const old = {
      ...llama,
      rope_theta: 500_000,
      rope_scaling: { type: 'linear', factor: 2 },
    }
    expect(architectureOf(old).config(old).rope).toMatchObject({ theta: 500_000, scaling: { factor: 2 } })
    const { rope_parameters: __, ...gemma } = configOf('gemma3_text')
    const older = { ...gemma, rope_theta: 2_000_000, rope_local_base_freq: 5_000 }
    const c = architectureOf(older).config(older)
    expect([c.rope!.theta, c.ropeLocal!.theta]).toEqual([2_000_000, 5_000])
  })

  it('knows which layers slide', () => {
    const { layer_types: _, ...two } = configOf('gemma2')
    expect(architectureOf(two).config({ ...two, num_hidden_layers: 4 }).sliding).toEqual([true, false, true, false])
    const { layer_types: __, ...three } = configOf('gemma3_text')
    const six = architectureOf(three).config({ ...three, num_hidden_layers: 7 }).sliding
    expect(six).toEqual([true, true, true, true, true, false, true])
    const { layer_types: ___, ...qwen } = configOf('qwen2')
    const some = { ...qwen, use_sliding_window: true, sliding_window: 4, max_window_layers: 1 }
    expect(architectureOf(some).config(some).sliding).toEqual([false, true])
    const moe = { ...some, model_type: 'qwen2_moe', layer_types: undefined }
    expect(architectureOf(moe).config(moe).sliding).toEqual([true, false])
    const all = { ...moe, model_type: 'qwen3_moe' }
    expect(architectureOf(all).config(all).sliding).toEqual([true, true])
    expect(architectures.length).toBe(15)
  })
})
