/**
 * Adapters on weights other than LoRA, trained and written by Weft, for the real PEFT to read: from-weft-weights.ts
 * [NAME...], then from_weft.py. node --import tsx --conditions=@weftjs/source tools/reference/from-weft-weights.ts
 */
import { mkdir } from 'node:fs/promises'
import { attach, loadNetwork, nextToken } from '@weftjs/model'
import { adamw, train } from '@weftjs/optim'
import type { Adapter } from '@weftjs/spec'
import { cpu, rng, tensor } from '@weftjs/tensor'
import { fileSink, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { boft } from '../../packages/lora/src/boft.ts'
import { fourierft } from '../../packages/lora/src/fourierft.ts'
import { gralora } from '../../packages/lora/src/gralora.ts'
import { hira } from '../../packages/lora/src/hira.ts'
import { hra } from '../../packages/lora/src/hra.ts'
import { loha } from '../../packages/lora/src/loha.ts'
import { lokr } from '../../packages/lora/src/lokr.ts'
import { oft } from '../../packages/lora/src/oft.ts'
import { savePeft } from '../../packages/lora/src/peft/save.ts'
import { randlora } from '../../packages/lora/src/randlora.ts'
import { road } from '../../packages/lora/src/road.ts'
import { vera } from '../../packages/lora/src/vera.ts'
import { batches, fixtures } from './batches.ts'

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
for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(ADAPTERS)) {
  const [base, adapter, at] = ADAPTERS[name]!
  const network = await loadNetwork(nodeFolder(`${fixtures}models/${base}`))
  const tuned = attach(network, [{ adapter, at }], rng(1))
  const data = batches(network.config.vocabulary)
  const losses: number[] = []
  const folder = `${fixtures}peft/from-weft-${name}`
  await mkdir(folder, { recursive: true })
  for await (const { step, loss, params } of train({
    params: tuned.params,
    data,
    transform: adamw({ lr: 0.05, weightDecay: 0 }),
    loss: (p, b) => nextToken(tuned.run(p, { ids: tensor(b.ids, [...b.shape], 'int32') }, { training: true }), b),
  })) {
    losses.push(loss)
    if (step === data.length) await savePeft((file) => fileSink(`${folder}/${file}`), tuned, params, { base })
  }
  console.log(name, 'on', base, losses.map((l) => l.toFixed(3)).join(' '))
}
