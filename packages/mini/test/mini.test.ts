import { statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { prepare, text } from '@weftjs/data'
import { lora } from '@weftjs/lora'
import { attach, complete, inputsOf, nextToken, score } from '@weftjs/model'
import { adamw, cosine, train } from '@weftjs/optim'
import type { Batch } from '@weftjs/spec'
import { countParams, rng, wasm } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { loadMini, miniFiles, miniFolder } from '../src/index.ts'

await wasm()
const { network, tokenizer } = await loadMini()
const bare = attach(network, [], rng(0))

describe('mini', () => {
  it('is a whole Hugging Face folder of at most 8 MB', async () => {
    const folder = miniFolder()
    expect(await folder.list!()).toEqual(Object.keys(miniFiles))
    for (const file of Object.keys(miniFiles)) expect(await folder.has(file)).toBe(true)
    const size = Object.values(miniFiles).reduce((n, url) => n + statSync(url).size, 0)
    expect(size).toBeLessThan(8e6)
    await expect(folder.open('model.bin')).rejects.toThrow(/no such file; mini has config.json/)
    expect(countParams(attach(network, [], rng(0), { train: '**' }).params)).toBe(3_803_392)
  })

  it('finds English likelier than the same words in another order', async () => {
    const said = [
      'The old man sat down by the fire and told them the story of his life.',
      'When they came to the door of the house, there was nobody at home.',
      'She took the letter from the table and read it again and again.',
    ]
    for (const sentence of said) {
      const words = sentence.split(' ')
      const turned = [...words].reverse().join(' ')
      const [plain, mixed] = [
        await score(bare, {}, tokenizer.encode(sentence)),
        await score(bare, {}, tokenizer.encode(turned)),
      ]
      expect(plain.loss!).toBeLessThan(4.5)
      expect(mixed.loss!).toBeGreaterThan(plain.loss! + 1)
    }
  })

  it('goes on with a sentence in words, the same for the same seed', async () => {
    const options = { tokenizer, maxTokens: 40, temperature: 0.7, topP: 0.9, seed: 3 }
    const [one] = await complete(bare, ['The king looked at the sea and'], options)
    const [two] = await complete(bare, ['The king looked at the sea and'], options)
    expect(one!.text).toBe(two!.text)
    const words = one!.text.match(/[A-Za-z]+/g) ?? []
    expect(words.length).toBeGreaterThan(15)
  })

  it('learns the voice of the cat in forty steps of LoRA', async () => {
    const file = await readFile(new URL('../../../examples/data/voice.txt', import.meta.url))
    const random = rng(0)
    const tuned = attach(
      network,
      [{ adapter: lora({ rank: 8, alpha: 16 }), at: 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}' }],
      random,
    )
    const data = prepare(text(file, { split: /\n\n+/ }), {
      ...{ format: 'text', tokenizer, length: 128, batch: 4, rng: random.fork('data'), validation: 0.02 },
    })
    const held: Batch[] = []
    for await (const batch of data.validation()) held.push(batch)
    const loss = async (p: Parameters<typeof tuned.run>[0]): Promise<number> => {
      const all = await Promise.all(held.map(async (b) => (await nextToken(tuned.run(p, inputsOf(b)), b).data())[0]!))
      return all.reduce((a, b) => a + b, 0) / all.length
    }
    const before = await loss(tuned.params)
    let params = tuned.params
    for await (const step of train<Batch>({
      params,
      data: data.batches(),
      steps: 40,
      transform: adamw({ lr: cosine(4e-3, { steps: 40, warmup: 4 }) }),
      loss: (p, batch) => nextToken(tuned.run(p, inputsOf(batch), { training: true }), batch),
    }))
      params = step.params
    expect(await loss(params)).toBeLessThan(before - 1)
    const [said] = await complete(tuned, [''], { params, tokenizer, maxTokens: 60, temperature: 0 })
    expect(said!.text).toMatch(/^Hear the cat\./)
  }, 120_000)
})
