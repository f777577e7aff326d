/**
 * LoRA beyond linears, trained and written by Weft, for the real PEFT to read: from-weft-experts.ts [NAME...], then
 * adapters_experts.py check. node --import tsx --conditions=@weftjs/source tools/reference/from-weft-experts.ts
 */
import { mkdir } from 'node:fs/promises'
import {
  type Attachment,
  attach,
  inputsOf,
  loadNetwork,
  nextToken,
  replicateLayers,
  resizeVocabulary,
  type TransformerConfig,
} from '@weftjs/model'
import { adamw, train } from '@weftjs/optim'
import type { Batch, Network } from '@weftjs/spec'
import { cpu, rng } from '@weftjs/tensor'
import { fileSink, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { alora } from '../../packages/lora/src/alora.ts'
import { expertLora } from '../../packages/lora/src/expert-lora.ts'
import { lora } from '../../packages/lora/src/lora.ts'
import { savePeft } from '../../packages/lora/src/peft/save.ts'

const fixtures = new URL('../../packages/testkit/fixtures/', import.meta.url).pathname
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

const batches = (vocabulary: number): Batch[] =>
  Array.from({ length: 6 }, (_, n) => {
    const [B, T] = [2, 10]
    const ids = Int32Array.from(rng(100 + n).numbers(B * T), (u) => 4 + Math.floor(u * (vocabulary - 4)))
    for (const [i, id] of CALL.entries()) ids[3 + i] = id
    return {
      shape: [B, T],
      ids,
      targets: ids.map((_, i) => (i % T === T - 1 ? -100 : ids[i + 1]!)),
      positions: ids.map((_, i) => i % T),
      segments: new Int32Array(B * T).fill(1),
    }
  })

await cpu()
for (const name of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(ADAPTERS)) {
  const { base, attachment, change = (n: Net) => n, train: whole } = ADAPTERS[name]!
  const network = change(await loadNetwork(nodeFolder(`${fixtures}models/${base}`)))
  const tuned = attach(network, [attachment], rng(1), { ...(whole && { train: whole }) })
  const data = batches(network.config.vocabulary)
  const losses: number[] = []
  const folder = `${fixtures}peft/from-weft-${name}`
  await mkdir(folder, { recursive: true })
  for await (const { step, loss, params } of train({
    params: tuned.params,
    data,
    transform: adamw({ lr: 0.03, weightDecay: 0 }),
    loss: (p, b) => nextToken(tuned.run(p, inputsOf(b), { training: true }), b),
  })) {
    losses.push(loss)
    if (step === data.length) await savePeft((file) => fileSink(`${folder}/${file}`), tuned, params, { base })
  }
  console.log(name, 'on', base, losses.map((l) => l.toFixed(3)).join(' '))
}
