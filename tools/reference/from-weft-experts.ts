/**
 * LoRA beyond linears, trained and written by Weft, for the real PEFT to read: from-weft-experts.ts [NAME...], then
 * adapters_experts.py check. node --import tsx --conditions=@weftjs/source tools/reference/from-weft-experts.ts
 */
import {
  type Attachment,
  attach,
  inputsOf,
  replicateLayers,
  resizeVocabulary,
  type TransformerConfig,
} from '@weftjs/model'
import type { Network } from '@weftjs/spec'
import { cpu, rng } from '@weftjs/tensor'
import { alora } from '../../packages/lora/src/alora.ts'
import { expertLora } from '../../packages/lora/src/expert-lora.ts'
import { lora } from '../../packages/lora/src/lora.ts'
import { baseOf, batches, learn, wanted } from './batches.ts'

const CALL = [7, 9]

type Net = Network<TransformerConfig>
interface Row {
  readonly base: string
  readonly attachment: Attachment
  readonly change?: (network: Net) => Net
  readonly train?: readonly string[]
}

const ADAPTERS: Readonly<Record<string, Row>> = {
  experts: {
    base: 'qwen3_moe',
    attachment: { adapter: expertLora({ rank: 3, alpha: 5 }), at: ['blocks.*.mlp.experts.*.*', 'blocks.*.attn.q'] },
  },
  'experts-router': {
    base: 'mixtral',
    attachment: {
      adapter: expertLora({
        rank: 2,
        alphaPattern: { router: 7 },
        rankPattern: { '1\\.mlp\\.experts\\.\\d+\\.down': 4 },
      }),
      at: ['blocks.*.mlp.experts.*.down', 'blocks.*.mlp.router'],
    },
  },
  // a LoRA for each expert's matrices, as transformers 4 had them: PEFT makes fused ones of them
  'experts-apart': {
    base: 'mixtral',
    attachment: { adapter: lora({ rank: 2, alpha: 3 }), at: ['blocks.*.mlp.experts.*.*', 'blocks.*.attn.v'] },
  },
  alora: { base: 'llama3', attachment: { adapter: alora({ rank: 4, tokens: CALL }), at: 'blocks.*.{attn.q,mlp.up}' } },
  replicated: {
    base: 'llama3',
    attachment: { adapter: lora({ rank: 2 }), at: 'blocks.*.attn.{q,v}' },
    change: (n) => replicateLayers(n, [[0, 2], [0, 1], [1, 2]]), // biome-ignore format: one line
  },
  positions: {
    base: 'gpt2',
    attachment: { adapter: lora({ rank: 2 }), at: 'blocks.*.attn.o' },
    train: ['positions'],
  },
  vocabulary: {
    base: 'llama',
    attachment: { adapter: lora({ rank: 2 }), at: 'blocks.*.attn.v' },
    change: (n) => resizeVocabulary(n, 100),
  },
  'vocabulary-embedding': {
    base: 'llama3',
    attachment: { adapter: lora({ rank: 2 }), at: ['embed', 'blocks.*.attn.v'] },
    change: (n) => resizeVocabulary(n, 100),
  },
}

await cpu()
for (const name of wanted(ADAPTERS)) {
  const { base, attachment, change = (n: Net) => n, train } = ADAPTERS[name]!
  const network = change(await baseOf(base))
  const tuned = attach(network, [attachment], rng(1), { ...(train && { train }) })
  await learn(name, tuned, { base, lr: 0.03, data: batches(network.config.vocabulary, CALL), inputs: inputsOf })
}
