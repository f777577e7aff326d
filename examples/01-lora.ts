/** Lesson 1: a pretrained model learns a voice by LoRA. Run: node --import tsx --conditions=@weftjs/source examples/01-lora.ts */
import { readFile } from 'node:fs/promises'
import { prepare, text } from '@weftjs/data'
import { lora } from '@weftjs/lora'
import { loadMini } from '@weftjs/mini'
import { attach, complete, inputsOf, nextToken } from '@weftjs/model'
import { adamw, train } from '@weftjs/optim'
import { best, rng } from '@weftjs/tensor'

const steps = Number(process.env['STEPS'] ?? 60)
const backend = await best()
console.log(`on ${backend.name} (${backend.device})`)
const { network, tokenizer } = await loadMini()

// an adapter of rank 8 beside the queries and values of every block; the network itself stays as it is
const tuned = attach(network, [{ adapter: lora({ rank: 8 }), at: 'blocks.*.attn.{q,v}' }], rng(0))
const numbers = Object.values(tuned.params).reduce((n, t) => n + t.size, 0)
console.log(`${numbers} numbers train`)
console.log('before:', (await complete(tuned, 'The cat', { tokenizer, maxTokens: 24 }))[0]!.text)

const rows = text(await readFile(new URL('data/voice.txt', import.meta.url)))
const data = prepare(rows, { format: 'text', tokenizer, length: 64, batch: 4, rng: rng(0) })
for await (const { step, loss, params } of train({
  params: tuned.params,
  data: data.batches(),
  loss: (p, batch) => nextToken(tuned.run(p, inputsOf(batch), { training: true }), batch),
  transform: adamw({ lr: 4e-3 }),
  steps,
})) {
  if (step % 5 === 0) console.log(`step ${step} loss ${loss.toFixed(3)}`)
  if (step === steps)
    console.log('after:', (await complete(tuned, 'The cat', { params, tokenizer, maxTokens: 24 }))[0]!.text)
}
