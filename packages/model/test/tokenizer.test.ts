import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { blobFolder, type Folder } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkTokenizer, decoder, encodeChat, loadTokenizer, type ModelTokenizer } from '../src/index.ts'

const fixtures = new URL('../../testkit/fixtures/tokenizers/', import.meta.url).pathname
interface Expected {
  vocabulary: number
  texts: { text: string; ids: number[]; plain: number[]; decoded: string; skipped: string }[]
  chat?: { messages: { role: string; content: string }[]; text: string; prompt: string }
}
const kinds = await Promise.all(
  readdirSync(fixtures).map(async (name) => ({
    name,
    tokenizer: await loadTokenizer(nodeFolder(fixtures + name)),
    expected: JSON.parse(readFileSync(`${fixtures}${name}/expected.json`, 'utf8')) as Expected,
  })),
)
const of = (name: string): (typeof kinds)[number] => kinds.find((k) => k.name === name)!
const byteLevel = of('byte-level')
const mini = new URL('../../mini/model/', import.meta.url).pathname

/** the byte-level fixture with other files beside it; null leaves one out */
const folder = (files: Record<string, unknown>, from = 'byte-level'): Folder => {
  const all = new Map<string, Blob>()
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    all.set(file, new Blob([readFileSync(`${fixtures}${from}/${file}`)]))
  for (const [file, value] of Object.entries(files))
    if (value === null) all.delete(file)
    else all.set(file, new Blob([typeof value === 'string' ? value : JSON.stringify(value)]))
  return blobFolder(all, 'there')
}
const bare = { bos_token: '<s>', eos_token: '</s>' }

describe.each(kinds)('$name', ({ tokenizer, expected }) => {
  it('has the vocabulary that the tokenizers library counts', () => {
    expect(tokenizer.vocabulary).toBe(expected.vocabulary)
  })
  it.each(expected.texts)(
    'reads and writes $text as the tokenizers library does',
    ({ text, ids, plain, decoded, skipped }) => {
      expect(tokenizer.encode(text)).toEqual(ids)
      expect(tokenizer.encode(text, { special: true })).toEqual(ids)
      expect(tokenizer.encode(text, { special: false })).toEqual(plain)
      expect(tokenizer.decode(ids)).toBe(decoded)
      expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(skipped)
    },
  )
  it.each(expected.texts)('streams $text as it decodes it, in whole characters', ({ ids }) => {
    for (const skipSpecial of [true, false]) {
      const stream = decoder(tokenizer, { skipSpecial })
      const pieces = ids.map((id) => stream.push(id))
      expect(pieces.join('') + stream.flush()).toBe(tokenizer.decode(ids, { skipSpecial }))
      expect(stream.flush()).toBe('')
    }
  })
})

describe('byte-level', () => {
  const { tokenizer } = byteLevel
  it('gives back any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text), { skipSpecial: true })).toBe(
          // a special token's name within the text is that token
          text.replaceAll(/<s>|<\/s>|<pad>|<\|user\|>|<\|assistant\|>/g, ''),
        )
      }),
      { numRuns: 200 },
    )
  })
  it('streams any ids as it decodes them, and never half a character of a text', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(tokenizer.vocabulary + 3), { maxLength: 40 }), (ids) => {
        const stream = decoder(tokenizer)
        const text = ids.map((id) => stream.push(id)).join('')
        expect(text + stream.flush()).toBe(tokenizer.decode(ids, { skipSpecial: true }))
      }),
      { numRuns: 300 },
    )
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const stream = decoder(tokenizer)
        for (const id of tokenizer.encode(text)) {
          const piece = stream.push(id)
          expect(piece).not.toMatch(/\p{Surrogate}/u)
          expect(piece.includes('\ufffd')).toBe(text.includes('\ufffd') && piece.includes('\ufffd'))
        }
        expect(stream.flush()).toBe('')
      }),
      { numRuns: 100 },
    )
  })
  it('holds the bytes of a character until the last', () => {
    const ids = tokenizer.encode('🙂', { special: false })
    expect(ids).toHaveLength(4)
    const stream = decoder(tokenizer)
    expect(ids.map((id) => stream.push(id))).toEqual(['', '', '', '🙂'])
    expect([stream.push(...ids.slice(0, 3)), stream.flush()]).toEqual(['', '\ufffd'])
  })
  it('knows its special tokens', () => {
    expect(tokenizer).toMatchObject({ bos: 0, eos: 1, pad: 2, ends: [1] })
    expect([...tokenizer.specials]).toEqual([0, 1, 2, 3, 4])
    expect([tokenizer.id('<|user|>'), tokenizer.token(3), tokenizer.id('<nobody>')]).toEqual([3, '<|user|>', undefined])
  })
  it('leaves out ids that have no token', () => {
    expect(tokenizer.decode([9999, ...tokenizer.encode('warp', { special: false }), 500])).toBe('warp')
    expect(tokenizer.decode([])).toBe('')
  })
})

describe('what the folder says', () => {
  const read = async (config: object, more: Record<string, unknown> = {}, from?: string): Promise<ModelTokenizer> =>
    loadTokenizer(folder({ 'tokenizer_config.json': { ...bare, ...config }, ...more }, from))
  const edges = (t: ModelTokenizer): [number[], number] => [
    t.encode('a').filter((id) => t.specials.has(id)),
    t.encode('a', { special: false }).length,
  ]

  it('adds BOS and EOS as tokenizer.json does, unless tokenizer_config.json says otherwise', async () => {
    expect(edges(await read({}))).toEqual([[0], 1])
    expect(edges(await read({ add_bos_token: false }))).toEqual([[], 1])
    expect(edges(await read({ add_bos_token: true, add_eos_token: true }))).toEqual([[0, 1], 1])
    expect(edges(await read({ add_eos_token: false }))).toEqual([[0], 1])
    expect((await read({ add_bos_token: true, add_eos_token: true })).encode('')).toEqual([0, 1])
  })
  it('reads ends of texts from generation_config.json, config.json, then EOS', async () => {
    expect((await read({}, { 'generation_config.json': { eos_token_id: [1, 4] } })).ends).toEqual([1, 4])
    expect((await read({}, { 'generation_config.json': {}, 'config.json': { eos_token_id: 4 } })).ends).toEqual([4])
    expect((await read({}, { 'config.json': { eos_token_id: null } })).ends).toEqual([1])
    const none = await read({ eos_token: null }, { 'generation_config.json': { eos_token_id: [4, 1] } })
    expect([none.eos, none.ends]).toEqual([4, [4, 1]])
    const nothing = await read({ eos_token: null })
    expect([nothing.eos, nothing.ends]).toEqual([undefined, []])
  })
  it('reads special tokens from special_tokens_map.json, where tokenizer_config.json does not name them', async () => {
    const map = { pad_token: { content: '<|user|>' }, eos_token: '<pad>' }
    expect(await read({}, { 'special_tokens_map.json': map })).toMatchObject({ pad: 3, eos: 1 })
  })
  it('works from tokenizer.json alone', async () => {
    const t = await loadTokenizer(folder({ 'tokenizer_config.json': null }))
    expect(t.encode('The weaver')).toEqual(byteLevel.tokenizer.encode('The weaver'))
    expect([t.bos, t.eos, t.chat]).toEqual([undefined, undefined, undefined])
  })
  it('keeps spaces before punctuation even where the config would clean them up', async () => {
    const t = await read({ clean_up_tokenization_spaces: true })
    expect(t.decode(t.encode('a , b .'), { skipSpecial: true })).toBe('a , b .')
  })
})

describe('chat', () => {
  const { messages, text, prompt } = byteLevel.expected.chat!
  it("renders the template as transformers' settings of Jinja do", () => {
    expect(byteLevel.tokenizer.chat!(messages)).toBe(text)
    expect(byteLevel.tokenizer.chat!(messages, { generationPrompt: true })).toBe(prompt)
  })
  it('gives ids with the special tokens that the template names, and no further BOS', () => {
    const { tokenizer } = byteLevel
    const ids = encodeChat(tokenizer, messages)
    expect(tokenizer.decode(ids)).toBe(prompt)
    expect(ids.filter((id) => tokenizer.specials.has(id))).toEqual([0, 3, 1, 4, 1, 3, 1, 4])
    expect(tokenizer.decode(encodeChat(tokenizer, messages, { generationPrompt: false }))).toBe(text)
  })
  it('takes chat_template.jinja first, and the default of several', async () => {
    const several = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'plain {{ messages | length }}{{ eos_token }}' },
    ]
    const config = { ...bare, chat_template: several }
    expect((await loadTokenizer(folder({ 'tokenizer_config.json': config }))).chat!(messages)).toBe('plain 3</s>')
    const file = folder({ 'tokenizer_config.json': config, 'chat_template.jinja': '{{ messages[0].role }}' })
    expect((await loadTokenizer(file)).chat!(messages)).toBe('user')
  })
  it('says what the template refuses, and where there is none', async () => {
    expect(() => byteLevel.tokenizer.chat!([{ role: 'loom', content: '' }])).toThrow(
      /^the chat template of .*byte-level refuses these messages: no such role: loom; check their roles and order$/,
    )
    expect(() => encodeChat(of('metaspace').tokenizer, messages)).toThrow(
      'this model has no chat template; use one that',
    )
    const broken = folder({ 'chat_template.jinja': '{% for %}' })
    await expect(loadTokenizer(broken)).rejects.toThrow(
      /^there: the chat template cannot be read: .*; correct it or remove it$/,
    )
  })
})

describe('bad files', () => {
  it('says what to do without a tokenizer.json', async () => {
    await expect(loadTokenizer(folder({ 'tokenizer.json': null }))).rejects.toThrow(
      "there: no tokenizer.json; copy it from the model's page on the hub into the folder",
    )
    await expect(
      loadTokenizer(folder({ 'tokenizer.json': null, 'tokenizer.model': 'x', 'vocab.json': '{}' })),
    ).rejects.toThrow('there: no tokenizer.json, only tokenizer.model, vocab.json; convert it once with Python')
  })
  it('names the file that is not what it should be', async () => {
    await expect(loadTokenizer(folder({ 'tokenizer.json': '{"model":' }))).rejects.toThrow(
      /there\/tokenizer.json: .*not valid JSON/,
    )
    await expect(loadTokenizer(folder({ 'tokenizer.json': '[]' }))).rejects.toThrow('there/tokenizer.json')
    await expect(loadTokenizer(folder({ 'tokenizer_config.json': '{' }))).rejects.toThrow('there/tokenizer_config.json')
    for (const json of [
      {},
      { model: { type: 'Nothing' } },
      { model: null },
      { model: { type: 'BPE', vocab: 3, merges: [] } },
    ])
      await expect(loadTokenizer(folder({ 'tokenizer.json': json }))).rejects.toThrow(
        /^there\/tokenizer.json: not a tokenizer that can be used \(.*\); download it again/,
      )
  })
  it('loads or names the file, whatever part of it is something else', async () => {
    const json = readFileSync(`${fixtures}byte-level/tokenizer.json`, 'utf8')
    const keys = ['added_tokens', 'normalizer', 'pre_tokenizer', 'post_processor', 'decoder', 'model'] as const
    const below = ['type', 'vocab', 'merges', 'single', 'special_tokens', 'unk_token', 'ids'] as const
    let refused = 0
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...keys),
        fc.option(fc.constantFrom(...below)),
        fc.jsonValue({ maxDepth: 2 }),
        async (key, inner, junk) => {
          const changed = JSON.parse(json)
          if (inner && changed[key]) changed[key][inner] = junk
          else changed[key] = junk
          try {
            const t = await loadTokenizer(folder({ 'tokenizer.json': changed }))
            expect(t.vocabulary).toBeGreaterThan(0)
          } catch (error) {
            refused++
            expect(error).toMatchObject({ name: 'CheckpointError', file: 'there/tokenizer.json' })
          }
        },
      ),
      { numRuns: 80 },
    )
    expect(refused).toBeGreaterThan(10)
  })
  it('refuses a tokenizer that does not match', () => {
    const { tokenizer } = byteLevel
    checkTokenizer(tokenizer, { vocabulary: 384 })
    checkTokenizer(tokenizer, { vocabulary: 512 })
    expect(() => checkTokenizer(tokenizer, { vocabulary: 96, architecture: 'llama' })).toThrow(
      'the tokenizer does not match the model: it has 384 tokens and the llama embedding 96 rows; use the tokenizer.json that came with the model',
    )
  })
  it('allows special tokens beyond the embedding, which no plain text encodes to', () => {
    const specials = new Set([382, 383])
    checkTokenizer({ ...byteLevel.tokenizer, specials }, { vocabulary: 382 })
    expect(() => checkTokenizer({ ...byteLevel.tokenizer, specials }, { vocabulary: 381 })).toThrow('it has 382 tokens')
  })
})

it.skipIf(!existsSync(`${mini}tokenizer.json`))("reads mini's tokenizer, with its chat template", async () => {
  const tokenizer = await loadTokenizer(nodeFolder(mini))
  const text = 'It was a bright cold day — and the clocks, naïvely, struck 13.'
  const ids = tokenizer.encode(text)
  expect(ids[0]).toBe(tokenizer.bos)
  expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(text)
  expect(tokenizer.token(encodeChat(tokenizer, [{ role: 'user', content: 'Hi' }])[0]!)).toBe('<s>')
})
