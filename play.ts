/** A scratch pad: node --import tsx --conditions=@weftjs/source play.ts */
import { loadMini } from '@weftjs/mini'
import { attach, generate } from '@weftjs/model'
import { best, rng } from '@weftjs/tensor'

console.log(await best())
const { network, tokenizer } = await loadMini()
const mini = attach(network, [], rng(0))
for await (const { text } of generate(mini, 'Once upon a time', {
  tokenizer,
  maxTokens: 60,
  temperature: 0.7,
  seed: 1,
}))
  process.stdout.write(text)
console.log()
