/**
 * Adapters on weights other than LoRA, trained and written by Weft, for the real PEFT to read: from-weft-weights.ts
 * [NAME...], then from_weft.py. node --import tsx --conditions=@weftjs/source tools/reference/from-weft-weights.ts
 */
import { attach } from '@weftjs/model'
import type { Adapter } from '@weftjs/spec'
import { cpu, rng } from '@weftjs/tensor'
import { boft } from '../../packages/lora/src/boft.ts'
import { fourierft } from '../../packages/lora/src/fourierft.ts'
import { gralora } from '../../packages/lora/src/gralora.ts'
import { hira } from '../../packages/lora/src/hira.ts'
import { hra } from '../../packages/lora/src/hra.ts'
import { loha } from '../../packages/lora/src/loha.ts'
import { lokr } from '../../packages/lora/src/lokr.ts'
import { oft } from '../../packages/lora/src/oft.ts'
import { randlora } from '../../packages/lora/src/randlora.ts'
import { road } from '../../packages/lora/src/road.ts'
import { vera } from '../../packages/lora/src/vera.ts'
import { baseOf, learn, wanted } from './batches.ts'

const SOME = 'blocks.*.{attn.q,attn.k,mlp.down}'

/** name: base model, what is attached, where */
const ADAPTERS: Readonly<Record<string, readonly [base: string, adapter: Adapter<any>, at: string | string[]]>> = {
  vera: ['llama3', vera({ rank: 5, seed: 3 }), SOME],
  randlora: ['llama3', randlora({ rank: 6, alpha: 6 }), 'blocks.0.{attn.q,mlp.down}'],
  loha: ['llama3', loha({ rank: 2, rankPattern: { 'attn\\.k': 3 }, alphaPattern: { 'attn\\.k': 5 } }), SOME],
  lokr: ['llama3', lokr({ rank: 2, factor: 4, init: 'lycoris' }), SOME],
  oft: ['llama3', oft({ block: 8 }), SOME],
  'oft-shared': ['llama', oft({ blocks: 4, share: true, neumann: false, radius: 0.4 }), ['blocks.*.attn.v', 'embed']],
  boft: ['qwen2', boft({ blocks: 8 }), 'blocks.*.attn.{q,v}'],
  hra: ['llama3', hra({ rank: 4 }), SOME],
  road: ['qwen2', road({ variant: 4, group: 4 }), 'blocks.*.{attn.q,mlp.up}'],
  gralora: ['llama3', gralora({ rank: 4, hybrid: 1, alpha: 5 }), SOME],
  hira: ['gpt2', hira({ rank: 3, init: 'gaussian' }), 'blocks.*.attn.{qkv,o}'],
  fourierft: ['gpt2', fourierft({ frequencies: 30, scale: 20, seed: 9, init: 'zero' }), 'blocks.*.attn.{qkv,o}'],
}

await cpu()
for (const name of wanted(ADAPTERS)) {
  const [base, adapter, at] = ADAPTERS[name]!
  await learn(name, attach(await baseOf(base), [{ adapter, at }], rng(1)), { base, lr: 0.05 })
}
