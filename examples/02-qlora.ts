/** Lesson 2: the same adapter on a base of four bits a weight (QLoRA). No line of LoRA knows of it: both speak of a Weight. */
import { lora } from '@weftjs/lora'
import { loadMini } from '@weftjs/mini'
import { attach, score } from '@weftjs/model'
import { nf4, quantize } from '@weftjs/quant'
import type { Network } from '@weftjs/spec'
import { best, rng } from '@weftjs/tensor'

await best()
const { network, tokenizer } = await loadMini()
const small = await quantize(network, nf4({ double: true }))

const bytes = ({ weights }: Pick<Network<object>, 'weights'>): number =>
  Object.entries(weights)
    .filter(([name]) => name.startsWith('blocks')) // the embedding stays dense
    .flatMap(([, w]) => Object.values(w.parts))
    .reduce((n, t) => n + t.size * 4, 0)
console.log(
  `weights of the blocks: ${(bytes(network) / 1e6).toFixed(1)} MB dense, ${(bytes(small) / 1e6).toFixed(1)} MB in NF4`,
)

for (const [name, base] of [
  ['dense', network],
  ['NF4', small],
] as const) {
  const tuned = attach(base, [{ adapter: lora({ rank: 8 }), at: 'blocks.*.attn.{q,v}' }], rng(0))
  const { loss } = await score(tuned, tuned.params, tokenizer.encode('The ship lay at anchor in the bay.'))
  console.log(`${name}: loss ${loss!.toFixed(3)}`)
}
