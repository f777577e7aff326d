/**
 * Adapters trained and written by Weft, for the real PEFT to read: from-weft.ts [NAME...], then from_weft.py.
 * node --import tsx --conditions=@weftjs/source tools/reference/from-weft.ts
 */
import { fromPeft, lora, peftConfig } from '@weftjs/lora'
import { type Attachment, attach, sitesOf, type TransformerConfig } from '@weftjs/model'
import type { Network } from '@weftjs/spec'
import { cpu, rng } from '@weftjs/tensor'
import { baseOf, learn, wanted } from './batches.ts'

interface Start {
  readonly network: Network<TransformerConfig>
  readonly attachments: readonly Attachment[]
  readonly options: { readonly train?: readonly string[] }
}
type Make = (network: Network<TransformerConfig>) => Start
const plain =
  (at: string | string[], options: Parameters<typeof lora>[0], train?: readonly string[]): Make =>
  (network) => ({ network, attachments: [{ adapter: lora(options), at }], options: { ...(train && { train }) } })
const byConfig =
  (config: object): Make =>
  (network) =>
    fromPeft(peftConfig({ peft_type: 'LORA', r: 4, lora_alpha: 8, ...config }), network, sitesOf(network))

/** name: base model and what is attached */
const ADAPTERS: Readonly<Record<string, readonly [base: string, make: Make]>> = {
  qv: ['llama3', plain('blocks.*.attn.{q,v}', { rank: 4, alpha: 8 })],
  'all-linear-rslora': ['llama3', byConfig({ target_modules: 'all-linear', use_rslora: true, lora_alpha: 3 })],
  patterns: [
    'llama3',
    plain('blocks.*.{attn,mlp}.{q,v,down}', {
      rank: 2,
      rankPattern: { 'attn\\.v': 3, '1\\.attn\\.q': 5 },
      alphaPattern: { 'mlp\\.down': 7 },
    }),
  ],
  'some-layers': ['llama3', plain(['blocks.1.attn.o', 'blocks.0.mlp.gate'], { rank: 3, alpha: 5, init: 'gaussian' })],
  'bias-all': ['qwen2', byConfig({ target_modules: ['q_proj', 'v_proj'], bias: 'all' })],
  'bias-only': ['qwen2', byConfig({ target_modules: ['q_proj', 'k_proj'], bias: 'lora_only' })],
  'lora-bias': ['llama-biased', plain('blocks.*.attn.q', { rank: 2, loraBias: true })],
  head: ['llama', plain(['head', 'blocks.*.attn.v'], { rank: 4 })],
  'modules-to-save': ['llama', plain('blocks.*.attn.q', { rank: 4 }, ['head', 'norm'])],
  embedding: ['llama', plain(['embed', 'blocks.*.mlp.up'], { rank: 4 })],
  'embedding-tied': ['llama3', plain(['embed'], { rank: 4 })],
  'head-untied': ['llama3', byConfig({ target_modules: ['q_proj'], modules_to_save: ['lm_head'] })],
  'embedding-untied': ['llama3', byConfig({ target_modules: ['q_proj'], modules_to_save: ['embed_tokens'] })],
  gpt2: ['gpt2', plain('blocks.*.attn.{qkv,o}', { rank: 4 }, ['blocks.1.norm1', 'blocks.1.norm1.bias'])],
  'gpt2-conv1d-saved': ['gpt2', plain('blocks.0.attn.qkv', { rank: 2 }, ['blocks.1.mlp.up', 'blocks.1.mlp.up.bias'])],
  gemma3: ['gemma3_text', plain('blocks.*.attn.{q,k}', { rank: 2 }, ['blocks.0.attn.qnorm', 'norm'])],
}

await cpu()
for (const name of wanted(ADAPTERS)) {
  const [base, make] = ADAPTERS[name]!
  const start = make(await baseOf(base))
  await learn(name, attach(start.network, start.attachments, rng(1), start.options), { base, lr: 0.03 })
}
