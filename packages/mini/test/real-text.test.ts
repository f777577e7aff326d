import { existsSync, readFileSync } from 'node:fs'
import { completion, pack, pipe, prepare, read } from '@weftjs/data'
import { lora } from '@weftjs/lora'
import { attach, inputsOf, nextToken, score } from '@weftjs/model'
import { adamw, train } from '@weftjs/optim'
import type { Batch } from '@weftjs/spec'
import { rng, wasm } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { loadMini } from '../src/index.ts'

/** Real text lies beside the repository on some machines, or where WEFT_DATA says; without it this suite is skipped. */
const folder = process.env['WEFT_DATA'] ?? new URL('../../../../shared/data', import.meta.url).pathname
const present = existsSync(`${folder}/tinyshakespeare.txt`)
const bytes = (file: string): { name: string; size: number; read(a: number, b: number): Promise<Uint8Array> } => {
  const all = new Uint8Array(readFileSync(`${folder}/${file}`))
  return { name: file, size: all.length, read: async (a, b) => all.subarray(a, b) }
}

describe.skipIf(!present)('on real text', async () => {
  if (!present) return
  await wasm()
  const { network, tokenizer } = await loadMini()

  it.each(['tinyshakespeare.txt', 'books/alice-in-wonderland.txt'])('tokens of %s decode to the text', (file) => {
    const text = readFileSync(`${folder}/${file}`, 'utf8').slice(0, 200_000)
    expect(tokenizer.decode(tokenizer.encode(text, { special: false }))).toBe(text)
  })

  it.each(['tinyshakespeare.txt', 'books/wizard-of-oz.txt'])(
    'the end of %s, which mini never saw, is English to it',
    async (file) => {
      const text = readFileSync(`${folder}/${file}`, 'utf8')
      // the last twentieth is held out; a Gutenberg file's own end is its licence
      const cut = text.search(/\*\*\* ?END OF/) > 0 ? text.search(/\*\*\* ?END OF/) : text.length
      // lines joined and quotes straightened, as in mini's training text
      const tail = text
        .slice(Math.floor(cut * 0.97), cut)
        .replace(/(\S)\r?\n(?=\S)/g, '$1 ')
        .replace(/[“”]/g, '"')
        .replace(/[‘’]/g, "'")
      const { loss } = await score(attach(network, [], rng(0)), {}, tokenizer.encode(tail).slice(0, 400))
      // a uniform guess among 4,096 tokens costs 8.3 nats
      expect(loss!).toBeLessThan(5)
    },
  )

  it('twenty steps of LoRA on the plays lower their loss', async () => {
    const tuned = attach(network, [{ adapter: lora({ rank: 8, alpha: 16 }), at: 'blocks.*.attn.{q,v}' }], rng(0))
    const options = { format: 'text', tokenizer, length: 128, batch: 4, rng: rng(1) } as const
    const data = prepare(read(bytes('tinyshakespeare.txt')), options)
    const losses: number[] = []
    for await (const s of train<Batch>({
      params: tuned.params,
      data: data.batches(),
      steps: 20,
      transform: adamw({ lr: 5e-3 }),
      loss: (p, batch) => nextToken(tuned.run(p, inputsOf(batch)), batch),
    }))
      losses.push(s.loss)
    const mean = (xs: number[]): number => xs.reduce((a, b) => a + b, 0) / xs.length
    expect(mean(losses.slice(-5))).toBeLessThan(mean(losses.slice(0, 5)) - 0.05)
  })

  it('word problems: only the answers are targets, and packing loses none of them', async () => {
    const rows = read(bytes('gsm8k.test.jsonl'))
    let answers = 0
    let targets = 0
    const counted = async function* (examples: AsyncIterable<{ ids: readonly number[]; labels: readonly number[] }>) {
      for await (const e of examples) {
        answers += e.labels.filter((l) => l >= 0).length
        yield e
      }
    }
    for await (const row of pipe(
      rows,
      completion({ tokenizer, prompt: 'question', completion: 'answer' }),
      counted,
      pack({ length: 1024 }),
    ))
      targets += row.targets.filter((t) => t >= 0).length
    expect(targets).toBe(answers)
    expect(answers).toBeGreaterThan(100_000)
  })
})
