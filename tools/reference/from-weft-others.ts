/**
 * Adapters of other methods, trained and written by Weft, for the real PEFT to read: from-weft-others.ts [NAME...], then
 * from_weft.py. node --import tsx --conditions=@weftjs/source tools/reference/from-weft-others.ts
 */
import * as methods from '@weftjs/lora'
import { attach } from '@weftjs/model'
import type { Adapter } from '@weftjs/spec'
import { cpu, rng, tensor, tensor1d } from '@weftjs/tensor'
import { baseOf, learn, wanted } from './batches.ts'

const SHAPES = 'blocks.*.{attn,mlp}.{q,k,up,down}'
const QV = 'blocks.*.attn.{q,v}'
const BANK = { rank: 2, vectors: 10, length: 8, bound: 0.4, std: 0.5 }

interface Row {
  readonly base: string
  readonly method: string
  readonly options?: object
  readonly at: string | readonly string[]
  /** tokens whose rows train beside it, of the embedding and of a head that shares its matrix */
  readonly tokens?: readonly number[]
}
/** name: base model, method, its options, where */
const ADAPTERS: Readonly<Record<string, Row>> = {
  ia3: { base: 'qwen2', method: 'ia3', at: 'blocks.*.{attn,mlp}.{k,v,down}' },
  'ln-tuning': { base: 'gpt2', method: 'lnTuning', at: ['norm', 'blocks.*.norm2'] },
  c3a: {
    base: 'llama3',
    method: 'c3a',
    options: { block: 8, blockPattern: { 'attn\\.k': 4 }, init: 'zeros' },
    at: SHAPES,
  },
  vblora: { base: 'llama3', method: 'vbLora', options: BANK, at: SHAPES },
  'vblora-compact': { base: 'llama3', method: 'vbLora', options: { ...BANK, top: 3, compact: true }, at: SHAPES },
  shira: { base: 'llama3', method: 'shira', options: { rank: 2 }, at: SHAPES },
  delora: {
    base: 'llama3',
    method: 'delora',
    options: { rank: 3, lambda: 6, rankPattern: { 'mlp\\.up': 2 }, lambdaPattern: { 'attn\\.q': 3 } },
    at: SHAPES,
  },
  miss: { base: 'llama3', method: 'miss', options: { rank: 7 }, at: SHAPES },
  'miss-mini': { base: 'llama3', method: 'miss', options: { rank: 6, mini: 8 }, at: SHAPES },
  'miss-bat': { base: 'llama3', method: 'bone', options: { rank: 4 }, at: SHAPES },
  'trainable-tokens': {
    base: 'llama',
    method: 'trainableTokens',
    options: { tokens: [5, 60, 7, ...Array.from({ length: 20 }, (_, i) => 4 * i + 10)] },
    at: 'embed',
  },
  'trainable-tokens-tied': {
    base: 'llama3',
    method: 'trainableTokens',
    options: { tokens: [9, 2] },
    at: ['embed', 'head'],
  },
  adalora: {
    base: 'llama3',
    method: 'adalora',
    options: { start: 4, rank: 2, alpha: 16, warm: 1, final: 1 },
    at: SHAPES,
  },
  'adalora-gpt2': { base: 'gpt2', method: 'adalora', options: { start: 3, rank: 3 }, at: 'blocks.*.attn.qkv' },
  'lora-tokens-tied': { base: 'llama3', method: 'lora', options: { rank: 2 }, at: QV, tokens: [9, 2, 30, 31, 32, 33] },
  xlora: {
    base: 'llama3',
    method: 'xLora',
    options: { experts: 3, rank: 2, alpha: [4, 2, 6], layerwise: true, depth: 2, width: 5, trainExperts: true },
    at: ['model', 'norm', 'head', QV],
  },
  'xlora-top': {
    base: 'llama3',
    method: 'xLora',
    options: {
      experts: 3,
      rank: 2,
      top: 2,
      dropout: 0,
      depth: 3,
      width: 4,
      first: 0.2,
      scale: 1.5,
      trainExperts: true,
    },
    at: ['model', 'norm', 'head', SHAPES],
  },
  poly: { base: 'llama3', method: 'poly', options: { rank: 2, tasks: 3, skills: 2, heads: 4 }, at: QV },
}

await cpu()
for (const name of wanted(ADAPTERS)) {
  const { base, method, options = {}, at, tokens } = ADAPTERS[name]!
  const make = (methods as unknown as Record<string, (options: object) => Adapter>)[method]!
  const beside = tokens ? [{ adapter: methods.trainableTokens({ tokens }), at: ['embed', 'head'] }] : []
  await learn(name, attach(await baseOf(base), [{ adapter: make(options), at }, ...beside], rng(1)), {
    ...{ base, lr: 0.05, noise: rng(2) },
    inputs: (b) => ({ ids: tensor(b.ids, [...b.shape], 'int32'), task: tensor1d([2, 0], 'int32') }),
  })
}
