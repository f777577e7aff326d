/** Files of ours in llama.cpp: `node tools/llama-cpp.mjs install` brings it, as npm's node-llama-cpp carries it. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fromPeft, loadPeft, readPeftConfig } from '@weftjs/lora'
import { loadMini, miniFolder } from '@weftjs/mini'
import {
  attach,
  checkpointOf,
  generate,
  initNetwork,
  loadNetwork,
  loadTokenizer,
  sitesOf,
  type TransformerConfig,
  type Tuned,
} from '@weftjs/model'
import type { Config, Network, Params, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, keep, mul, rng, tensor, tidy, wasm } from '@weftjs/tensor'
import { fileSink, fromFile } from '@weftjs/tensor/checkpoint/file'
import { fixtureFolder } from '@weftjs/testkit/fixtures'
import { dense } from '@weftjs/weight'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ggufAdapter, type LoraModule } from '../src/gguf/adapter.ts'
import { ggufAdapterFolder } from '../src/gguf/adapter-in.ts'
import { ggufFolder } from '../src/gguf/folder.ts'
import { saveGguf, tokenizerFiles } from '../src/gguf/model.ts'
import { writeGguf } from '../src/gguf/writer.ts'
import { fromPacked } from '../src/index.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const installed = existsSync(join(root, '.cache/llama-cpp/node_modules/node-llama-cpp'))
const TOKENS = 24

interface Job {
  readonly model: string
  readonly lora?: string
  readonly scale?: number
  readonly prompts: readonly (string | readonly number[])[]
  readonly tokens?: number
}
interface Answer {
  readonly ids: readonly number[]
  readonly out: readonly number[]
  readonly text: string
}
/** all in one process, which takes longer to start than to answer */
const llama = async (jobs: readonly Job[]): Promise<Answer[][]> => {
  const child = spawn(process.execPath, [join(root, 'tools/llama-cpp.mjs'), 'run'])
  let [out, log] = ['', '']
  child.stdout.on('data', (piece) => {
    out += piece
  })
  child.stderr.on('data', (piece) => {
    log += piece
  })
  child.stdin.end(JSON.stringify(jobs))
  const status = await new Promise((resolve) => child.on('close', resolve))
  if (status !== 0) throw new Error(`llama.cpp: ${log.slice(-2000)}`)
  return JSON.parse(out.trim().split('\n').at(-1)!) as Answer[][]
}

const greedy = async (
  tuned: Tuned,
  ids: readonly number[],
  ends: readonly number[],
  params: Params = {},
): Promise<number[]> => {
  const out: number[] = []
  for await (const { id } of generate(tuned, [ids], { maxTokens: TOKENS, ends, params })) {
    if (ends.includes(id)) break
    out.push(id)
  }
  return out
}

/** how far the logit of each token of a continuation is behind the largest, here */
const behind = (tuned: Tuned, ids: readonly number[], out: readonly number[]): number[] => {
  const row = [...ids, ...out].slice(0, -1)
  const { logits } = tuned.forward({}, { ids: tensor(row, [1, row.length], 'int32') })
  const [values, v] = [logits.dataSync() as Float32Array, logits.shape[2]!]
  return out.map((token, k) => {
    const at = values.subarray((ids.length - 1 + k) * v, (ids.length + k) * v)
    return at.reduce((a, b) => Math.max(a, b)) - at[token]!
  })
}

const PROMPTS = ['Once upon a time', 'The little dog saw 12 birds and', 'In the morning the king said to']
const MIXES = ['F32', 'F16', 'Q8_0', 'Q4_0', 'Q4_K_M', 'Q5_K_M', 'Q6_K']
const ROUNDED = ['Q4_K_M', 'Q5_K_M', 'Q6_K']
const ODD = [
  "It's 1234 o'clock,\n\n  said  the  dog\t!",
  'Žluťoučký 🐶 kůň 二',
  '  a<|im_start|>user\nb',
  'x=y+1;  // 3.14',
]
const PIECES = ['The weaver wove a thread.', '  two  spaces, žluť 🦊', 'the cloth<|user|>and the loom', 'looms']

const sizes: Config = {
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 4096,
  max_position_embeddings: 256,
  initializer_range: 0.15,
}
const gelu = { hidden_activation: 'gelu_pytorch_tanh', sliding_window: 8, query_pre_attn_scalar: 16 }
const experts = {
  ...{ num_experts: 5, num_experts_per_tok: 3, moe_intermediate_size: 32, tie_word_embeddings: false },
  ...{ rope_theta: 1e6, sliding_window: null },
}
const scaled = (rope_scaling: Config): Config => ({ model_type: 'llama', rope_theta: 500_000, rope_scaling })
const FAMILIES: Readonly<Record<string, Config>> = {
  llama: { model_type: 'llama', tie_word_embeddings: false },
  'llama with the scaling of Llama 3': scaled({
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 32,
  }),
  'llama with linear scaling': scaled({ rope_type: 'linear', factor: 4 }),
  'llama with yarn': scaled({ rope_type: 'yarn', factor: 4, original_max_position_embeddings: 64 }),
  'llama with biases': { model_type: 'llama', attention_bias: true },
  mistral: { model_type: 'mistral', sliding_window: 128 },
  qwen2: { model_type: 'qwen2', rope_theta: 1e6, head_dim: undefined },
  qwen3: { model_type: 'qwen3', rope_theta: 1e6, tie_word_embeddings: false },
  mixtral: { model_type: 'mixtral', ...experts, num_local_experts: 4, num_experts_per_tok: 2 },
  'qwen2 with experts': {
    ...{ model_type: 'qwen2_moe', ...experts, shared_expert_intermediate_size: 80, norm_topk_prob: false },
    head_dim: undefined,
  },
  'qwen3 with experts': { model_type: 'qwen3_moe', ...experts, norm_topk_prob: true },
  gemma: { model_type: 'gemma', hidden_act: 'gelu_pytorch_tanh' },
  gemma2: { model_type: 'gemma2', ...gelu },
  gemma3: { model_type: 'gemma3_text', ...gelu, sliding_window_pattern: 6 },
  'gemma3 with another pattern': {
    model_type: 'gemma3_text',
    ...gelu,
    sliding_window_pattern: 3,
    rope_local_base_freq: 500,
  },
}
/** random, with no norm the identity and no bias zero; where the head is the embedding, blocks louder than it decide */
const randomNetwork = (config: Config): Network<TransformerConfig> => {
  const made = initNetwork({ ...sizes, ...config }, rng(5))
  const moved = (name: string, t: Tensor): Tensor => tidy(() => keep(add(t, rng(6).fork(name).normal(t.shape, 0.2))))
  const louder = (name: string, w: Weight): Weight =>
    made.config.normOffset ? dense(tidy(() => keep(mul(w.dense(), name === 'embed' ? 0.2 : 3))) as Tensor2D) : w
  return {
    ...made,
    weights: Object.fromEntries(Object.entries(made.weights).map(([n, w]) => [n, louder(n, w)])),
    vectors: Object.fromEntries(Object.entries(made.vectors).map(([n, t]) => [n, moved(n, t)])),
  }
}
const ROWS = [
  [0, 51, 1135, 640, 263, 589, 309, 22, 2163, 290, 265, 916, 77, 1203, 8, 3000],
  [0, 324, 800, 1366],
]

type Shapes = Readonly<Record<string, readonly [out: number, input: number]>>
const LINEAR: Shapes = {
  'self_attn.q_proj': [256, 256],
  'self_attn.k_proj': [128, 256],
  'self_attn.v_proj': [128, 256],
  'mlp.down_proj': [256, 640],
}
/** of a model whose embedding is not its head; A of the table is [r, vocabulary] */
const TABLES: Shapes = { 'model.embed_tokens': [64, 4096], lm_head: [4096, 64] }
/** of a mixture of 4 experts: its attention and its router */
const SPARSE: Shapes = {
  'model.layers.0.self_attn.q_proj': [64, 64],
  'model.layers.0.self_attn.k_proj': [32, 64],
  'model.layers.1.block_sparse_moe.gate': [4, 64],
}
const OTHERS: readonly (readonly [name: string, base: string, shapes: Shapes])[] = [
  ['the embedding and the head', 'llama', TABLES],
  ['attention and router of a mixture', 'mixtral', SPARSE],
]
/** an adapter of other ranks and scales in each kind of module */
const loraModules = (shapes: Shapes, louder = 1): LoraModule[] =>
  Object.entries(shapes).map(([module, [out, input]], i): LoraModule => {
    const rank = 2 + (i % 4)
    const values = (part: string, n: number, std: number): Float32Array =>
      rng(9).fork(`${module}.${part}`).normal([n], std).dataSync() as Float32Array
    const [a, b] = [values('a', rank * input, 0.06 * louder), values('b', out * rank, 0.12 * louder)]
    return { module, rank, a, b, in: input, out, scale: 0.5 + (i % 4) / 4 }
  })
const miniModules = (): LoraModule[] =>
  loraModules(
    Object.fromEntries(
      [0, 1, 2, 3].flatMap((n) => Object.entries(LINEAR).map(([path, s]) => [`model.layers.${n}.${path}`, s])),
    ),
  )

describe.skipIf(!installed)('in llama.cpp (skipped unless `node tools/llama-cpp.mjs install` was run)', () => {
  let folder = ''
  let network: Network<TransformerConfig>
  const answers = new Map<string, readonly Answer[]>()
  const pathOf = (name: string): string => join(folder, `${name.replaceAll(' ', '-')}.gguf`)

  beforeAll(async () => {
    await wasm()
    folder = await mkdtemp(join(tmpdir(), 'weft-gguf-'))
    network = (await loadMini()).network
    const tokenizer = (await tokenizerFiles(miniFolder()))!
    const jobs: (Job & { readonly name: string })[] = []
    const save = async (
      name: string,
      of: Network<TransformerConfig>,
      mix: string,
      files = tokenizer,
    ): Promise<string> => {
      await saveGguf(await fileSink(pathOf(name)), { ...checkpointOf(of, { dtype: 'F32' }), mix, tokenizer: files })
      return pathOf(name)
    }
    for (const mix of MIXES)
      jobs.push({ name: mix, model: await save(mix, network, mix), prompts: PROMPTS, tokens: TOKENS })
    jobs.push({ name: 'odd', model: pathOf('F32'), prompts: ODD, tokens: 0 })
    for (const [name, config] of Object.entries(FAMILIES))
      jobs.push({ name, model: await save(name, randomNetwork(config), 'F32'), prompts: ROWS, tokens: TOKENS })
    const config = checkpointOf(network, {}).config
    await writeGguf(await fileSink(pathOf('lora')), ggufAdapter({ config, modules: miniModules() }))
    jobs.push({ name: 'lora', model: pathOf('F32'), lora: pathOf('lora'), prompts: PROMPTS, tokens: TOKENS })
    for (const [name, base, shapes] of OTHERS) {
      const { config: of } = checkpointOf(randomNetwork(FAMILIES[base]!), {})
      await writeGguf(await fileSink(pathOf(name)), ggufAdapter({ config: of, modules: loraModules(shapes, 3) }))
      jobs.push({ name, model: pathOf(base), lora: pathOf(name), prompts: ROWS, tokens: TOKENS })
    }
    const pieces = fixtureFolder('tokenizers/metaspace')
    const small = initNetwork(
      { ...sizes, model_type: 'llama', vocab_size: (await loadTokenizer(pieces)).vocabulary },
      rng(5),
    )
    jobs.push({
      name: 'pieces',
      model: await save('pieces', small, 'F32', (await tokenizerFiles(pieces))!),
      prompts: PIECES,
      tokens: 0,
    })
    const found = await llama(jobs)
    for (const [i, { name }] of jobs.entries()) answers.set(name, found[i]!)
  }, 600_000)
  afterAll(() => rm(folder, { recursive: true, force: true }))

  it.each(MIXES)('mini in %s loads, cuts texts as here and generates the same greedy text', async (mix) => {
    const opened = await ggufFolder(() => fromFile(pathOf(mix)))
    const ours = await loadTokenizer(opened)
    const tuned = attach(await loadNetwork(opened, { packed: fromPacked }), [], rng(0))
    for (const [i, prompt] of PROMPTS.entries()) {
      const { ids, out } = answers.get(mix)![i]!
      expect(ids, prompt).toEqual(ours.encode(prompt))
      // llama.cpp rounds what a product with K blocks reads to 8 bits, so that tokens nearly as likely may change places
      if (ROUNDED.includes(mix)) {
        expect(Math.max(...behind(tuned, ids, out)), `${prompt}: logits behind the largest`).toBeLessThan(0.25)
      } else expect(out, prompt).toEqual(await greedy(tuned, ours.encode(prompt), ours.ends))
    }
  })

  it('mini cuts odd texts as here', async () => {
    const ours = await loadTokenizer(miniFolder())
    for (const [i, text] of ODD.entries()) expect(answers.get('odd')![i]!.ids, text).toEqual(ours.encode(text))
  })

  it.each(Object.keys(FAMILIES))('%s computes as here', async (name) => {
    const tuned = attach(randomNetwork(FAMILIES[name]!), [], rng(0))
    for (const [i, row] of ROWS.entries()) {
      const want = await greedy(tuned, row, [1, 4])
      expect(new Set(want).size, 'a text that varies').toBeGreaterThan(3)
      expect(answers.get(name)![i]!.out, `prompt ${i}`).toEqual(want)
    }
  })

  /** a network with the adapter of a GGUF file, which says its heads itself */
  const tunedBy = async (base: Network<TransformerConfig>, lora: string): Promise<readonly [Tuned, Params]> => {
    const peft = await ggufAdapterFolder(() => fromFile(pathOf(lora)))
    const start = fromPeft(await readPeftConfig(peft), base, sitesOf(base))
    const tuned = attach(start.network, start.attachments, rng(1), start.options)
    return [tuned, (await loadPeft(peft, tuned)).params]
  }

  it('a GGUF LoRA does what the adapter does here', async () => {
    const [tuned, params] = await tunedBy(network, 'lora')
    const ours = await loadTokenizer(miniFolder())
    const found = answers.get('lora')!.map((a) => a.out)
    expect(found).not.toEqual(answers.get('F32')!.map((a) => a.out))
    for (const [i, prompt] of PROMPTS.entries())
      expect(found[i], prompt).toEqual(await greedy(tuned, ours.encode(prompt), ours.ends, params))
  })

  it.each(OTHERS)('a GGUF LoRA of %s, too', async (name, base) => {
    const [tuned, params] = await tunedBy(randomNetwork(FAMILIES[base]!), name)
    const found = answers.get(name)!.map((a) => a.out)
    expect(found).not.toEqual(answers.get(base)!.map((a) => a.out))
    for (const [i, row] of ROWS.entries())
      expect(found[i], `prompt ${i}`).toEqual(await greedy(tuned, row, [1, 4], params))
  })

  it("SentencePiece's pieces cut texts as here", async () => {
    const ours = await loadTokenizer(fixtureFolder('tokenizers/metaspace'))
    for (const [i, text] of PIECES.entries()) expect(answers.get('pieces')![i]!.ids, text).toEqual(ours.encode(text))
  })
})
