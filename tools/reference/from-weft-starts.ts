/**
 * Adapters of peft_type LORA with a start or shape of their own, trained and written by Weft, for the real PEFT to read:
 * from-weft-starts.ts [NAME...], then from_weft.py. node --import tsx --conditions=@weftjs/source tools/reference/from-weft-starts.ts
 */
import { asPlainLora, readyLora, savePeft } from '@weftjs/lora'
import { attach, calibrate } from '@weftjs/model'
import type { Adapter } from '@weftjs/spec'
import { cpu, rng } from '@weftjs/tensor'
import { corda } from '../../packages/lora/src/corda.ts'
import { dora } from '../../packages/lora/src/dora.ts'
import { eva } from '../../packages/lora/src/eva.ts'
import { kasa } from '../../packages/lora/src/kasa.ts'
import { lora } from '../../packages/lora/src/lora.ts'
import { loraGa } from '../../packages/lora/src/lora-ga.ts'
import { olora } from '../../packages/lora/src/olora.ts'
import { pissa } from '../../packages/lora/src/pissa.ts'
import { rslora } from '../../packages/lora/src/rslora.ts'
import { baseOf, batches, learn, wanted } from './batches.ts'

const SOME = 'blocks.*.{attn.q,attn.k,mlp.down}'

interface Made {
  readonly base: string
  readonly adapter: Adapter<any>
  readonly at: string | string[]
  /** converted to a plain LoRA for the original base */
  readonly plain?: boolean
}
const ADAPTERS: Readonly<Record<string, Made>> = {
  dora: { base: 'llama3', adapter: dora({ rank: 4, alpha: 6, rankPattern: { 'attn\\.k': 2 } }), at: SOME },
  'dora-embedding': { base: 'llama', adapter: dora({ rank: 3, rslora: true }), at: ['embed', 'blocks.*.attn.v'] },
  'dora-gpt2': { base: 'gpt2', adapter: dora({ rank: 3 }), at: 'blocks.*.attn.{qkv,o}' },
  rslora: { base: 'llama3', adapter: rslora({ rank: 4, alpha: 3, alphaPattern: { 'attn\\.k': 5 } }), at: SOME },
  orthogonal: { base: 'llama3', adapter: lora({ rank: 4, init: 'orthogonal' }), at: SOME },
  pissa: { base: 'qwen2', adapter: pissa({ rank: 4, alpha: 6 }), at: 'blocks.*.{attn.q,mlp.down}' },
  'pissa-gpt2': { base: 'gpt2', adapter: pissa({ rank: 3, niter: 0 }), at: 'blocks.*.attn.{qkv,o}' },
  'pissa-plain': { base: 'llama3', adapter: pissa({ rank: 4, alpha: 6, niter: 4 }), at: SOME, plain: true },
  olora: { base: 'qwen2', adapter: olora({ rank: 3 }), at: 'blocks.*.{attn.q,mlp.down}' },
  'olora-plain': { base: 'gpt2', adapter: olora({ rank: 3 }), at: 'blocks.*.attn.{qkv,o}', plain: true },
  'corda-plain': { base: 'llama3', adapter: corda({ rank: 3, mode: 'kpm' }), at: SOME, plain: true },
  'lora-ga-plain': { base: 'llama3', adapter: loraGa({ rank: 3, rslora: true }), at: SOME, plain: true },
  eva: { base: 'llama3', adapter: eva({ rank: 4, alpha: 6 }), at: SOME },
  'eva-rslora': { base: 'llama3', adapter: eva({ rank: 3, rslora: true, adjust: false }), at: SOME },
  kasa: { base: 'qwen2', adapter: kasa({ rank: 4, beta: 0.01 }), at: 'blocks.*.{attn.q,mlp.down}' },
}

await cpu()
for (const name of wanted(ADAPTERS)) {
  const { base, adapter, at, plain = false } = ADAPTERS[name]!
  const network = await baseOf(base)
  const data = batches(network.config.vocabulary)
  const statistics = adapter.calibrates
  const tuned = attach(network, [{ adapter, at }], rng(1), {
    seen: statistics ? await calibrate(network, data, { statistics, at }) : {},
  })
  await learn(name, tuned, {
    ...{ base, lr: 0.02 },
    save: async (sink, now, params) => {
      if (!plain) return savePeft(sink, now, params, { base })
      const same = attach(network, [readyLora(await asPlainLora(now, { params }))], rng(0))
      return savePeft(sink, same, same.params, { base })
    },
  })
}
