import type { Example, Message } from '@weftjs/spec'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  chat,
  collect,
  completion,
  from,
  ids,
  jsonl,
  learnable,
  type Row,
  textExamples,
  truncate,
} from '../src/index.ts'
import { BOS, bytes, EOS, utf, watched, words } from './toy.ts'

const run = (stage: (rows: AsyncIterable<Row>) => AsyncIterable<Example>, ...rows: Row[]) => collect(stage(from(rows)))
/** the text that carries loss */
const learned = ({ ids, labels }: Example) => {
  expect(labels.every((label, i) => label === -100 || label === ids[i])).toBe(true)
  return bytes().decode(ids.filter((_, i) => labels[i] !== -100))
}

describe('textExamples', () => {
  const tokenizer = bytes()

  it('puts BOS and EOS as the tokenizer has them', async () => {
    const one = async (t: typeof tokenizer) => (await run(textExamples({ tokenizer: t }), { text: 'hi' }))[0]!.ids
    expect(await one(tokenizer)).toEqual([BOS, 104, 105, EOS])
    expect(await one(bytes({ encode: (s) => [...utf(s)] }))).toEqual([104, 105, EOS])
    // [CLS] ... [SEP]: no EOS on top of what closes a text already
    const bert = bytes({ encode: (s, { special = false } = {}) => (special ? [1, ...utf(s), 2] : [...utf(s)]) })
    expect(await one(bert)).toEqual([1, 104, 105, 2])
    // a text that ends in EOS does not get another
    expect(await one(bytes({ encode: (s) => (s === 'hi' ? [104, EOS] : [...utf(s)]) }))).toEqual([104, EOS])
  })

  it('cuts windows in which every token but the first is a target exactly once', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(60), fc.integer({ min: 2, max: 20 }), fc.nat(100), async (n, length, s) => {
        const text = 'abcdefghijklmnopqrstuvwxyz'.repeat(3).slice(0, n)
        const stride = 1 + (s % (length - 1))
        const whole = [BOS, ...utf(text), EOS]
        const windows = await run(textExamples({ tokenizer, length, stride }), { text })
        expect(windows.every((w) => w.ids.length <= length && w.ids.length === w.labels.length)).toBe(true)
        const targets = windows.flatMap((w) => w.labels.slice(1)).filter((label) => label !== -100)
        expect(targets).toEqual(whole.slice(1))
        for (const [i, w] of windows.entries()) expect(w.ids).toEqual(whole.slice(i * stride, i * stride + length))
      }),
    )
  })

  it('refuses what is no text', async () => {
    await expect(run(textExamples({ tokenizer }), { text: 'a' }, { text: 42 })).rejects.toThrow(
      'row 2: "text" is a number (42), want a string',
    )
    await expect(run(textExamples({ tokenizer }), { body: 'a', n: 1 })).rejects.toThrow(
      'row 1: no field "text"; found "body", "n"',
    )
    expect(() => textExamples({ tokenizer, length: 1 })).toThrow('at least 2')
    expect(() => textExamples({ tokenizer, length: 4, stride: 5 })).toThrow('would lose tokens')
  })
})

describe('completion', () => {
  const tokenizer = bytes()

  it('learns the completion and its end, and nothing of the prompt', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), async (prompt, answer) => {
        const [example] = await run(completion({ tokenizer }), { prompt, completion: answer })
        const head = [BOS, ...tokenizer.encode(prompt)]
        const tail = [...tokenizer.encode(answer), EOS]
        expect(example!.ids).toEqual([...head, ...tail])
        expect(example!.labels).toEqual([...head.map(() => -100), ...tail])
      }),
    )
  })

  it('knows the usual field names, takes others, and templates', async () => {
    const text = async (row: Row, options = {}) => {
      const [example] = await run(completion({ tokenizer, ...options }), row)
      return [bytes().decode(example!.ids), learned(example!)]
    }
    expect(await text({ question: 'Q?', answer: 'A' })).toEqual(['Q?\nA', 'A'])
    expect(await text({ instruction: 'Add.', input: '1 2', output: '3', answer: 'x' })).toEqual(['Add.\n1 2\n3', '3'])
    expect(await text({ instruction: 'Add.', input: '', output: '3' })).toEqual(['Add.\n3', '3'])
    expect(await text({ prompt: 'p', response: 'r' })).toEqual(['pr', 'r'])
    expect(await text({ in: 'p', out: 'c' }, { prompt: 'in', completion: 'out' })).toEqual(['pc', 'c'])
    expect(await text({ q: '$&', a: 'b' }, { prompt: 'Q: {q}\nA:', completion: ' {a}.' })).toEqual([
      'Q: $&\nA: b.',
      ' b.',
    ])
  })

  it('follows TRL where joining changes the tokens of the prompt, and says so once', async () => {
    const notes: string[] = []
    const stage = completion({ tokenizer: words(), note: (n) => notes.push(n) })
    const [split, clean] = await run(
      stage,
      { prompt: 'the ', completion: 'cat sat' },
      { prompt: 'the', completion: ' cat sat' },
    )
    // prompt alone: "the", " "; joined: "the", " cat", " sat", EOS: two places are masked
    expect(split!.labels).toEqual([-100, -100, split!.ids[2], 1])
    expect(clean!.ids).toEqual(split!.ids)
    expect(clean!.labels).toEqual([-100, ...clean!.ids.slice(1)])
    expect(notes).toEqual([
      expect.stringContaining('row 1: the tokens of the prompt change where the completion joins it'),
    ])
  })

  it('names the line, the fields found and those wanted', async () => {
    const lines = (s: string) =>
      collect(
        completion({ tokenizer })(
          jsonl({ name: 'qa.jsonl', size: utf(s).length, read: async (a, b) => utf(s).slice(a, b) }),
        ),
      )
    await expect(lines('{"prompt":"a","completion":"b"}\n\n{"prompt":"a","reply":"b"}')).rejects.toThrow(
      'qa.jsonl, line 3: no field "completion"; found "prompt", "reply"; name the fields, for instance { prompt: "question", completion: "answer" }',
    )
    await expect(lines('{"prompt":"a","completion":7}')).rejects.toThrow(
      'qa.jsonl, line 1: "completion" is a number (7), want a string',
    )
    await expect(lines('{"prompt":["a"],"completion":null}')).rejects.toThrow(
      '"prompt" is an array of 1, want a string',
    )
    await expect(lines('{}')).rejects.toThrow('no field "prompt"; found none')
    await expect(lines('{"__proto__":{"prompt":"a","completion":"b"}}')).rejects.toThrow('no field "prompt"')
  })
})

describe('chat', () => {
  const tokenizer = bytes()
  const talk = (...contents: string[]): Row => ({
    messages: contents.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content })),
  })

  it('learns the turns of the assistant, each with what the template puts after it', async () => {
    const [example] = await run(chat({ tokenizer }), talk('hi', 'hello', 'bye', 'so long'))
    expect(bytes().decode(example!.ids)).toBe('<|user|>hi\n<|assistant|>hello\n<|user|>bye\n<|assistant|>so long\n')
    expect(learned(example!)).toBe('hello\nso long\n')
    const [last] = await run(chat({ tokenizer, turns: 'last' }), talk('hi', 'hello', 'bye', 'so long'))
    expect(learned(last!)).toBe('so long\n')
  })

  it('masks any conversation right, and leaves out what follows the last turn', async () => {
    const message = fc.record({
      role: fc.constantFrom('user', 'assistant', 'system'),
      content: fc.string({ unit: 'grapheme' }),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(message), fc.string(), async (messages: Message[], final) => {
        const list = [...messages, { role: 'assistant', content: final }]
        const [example] = await run(chat({ tokenizer }), { messages: [...list, { role: 'user', content: 'more' }] })
        const expected = list.flatMap(({ role, content }) => {
          const head = tokenizer.encode(`<|${role}|>`)
          const body = tokenizer.encode(`${content}\n`)
          return [...head.map(() => -100), ...(role === 'assistant' ? body : body.map(() => -100))]
        })
        expect(example!.labels).toEqual(expected)
      }),
    )
  })

  it('takes other names for the parts', async () => {
    const stage = chat({ tokenizer, messages: 'conversations', role: 'from', content: 'value', speaker: 'gpt' })
    const [example] = await run(stage, { conversations: [{ from: 'gpt', value: 'x' }] }).catch((e) => [e])
    // the toy template opens the turn of "assistant", which is not what it then writes
    expect(example.message).toContain('not prefix-stable')
    const row = {
      conversations: [
        { from: 'human', value: 'q' },
        { from: 'assistant', value: 'a' },
      ],
    }
    const [other] = await run(chat({ tokenizer, messages: 'conversations', role: 'from', content: 'value' }), row)
    expect(learned(other!)).toBe('a\n')
  })

  it('refuses a template that rewrites earlier turns, and offers the last turn', async () => {
    // as templates do that strip the reasoning of all turns but the last
    const stripping = bytes({
      chat: (list, options) =>
        bytes().chat!(
          list.map((m, i) => (i < list.length - 1 ? { ...m, content: m.content.replace(/\(.*\)/, '') } : m)),
          options,
        ),
    })
    const row = talk('hi', '(think)hello', 'bye', '(think)so long')
    await expect(run(chat({ tokenizer: stripping }), row)).rejects.toThrow(
      'row 1: the chat template is not prefix-stable: it writes message 2 of 4 differently when other messages follow',
    )
    const [last] = await run(chat({ tokenizer: stripping, turns: 'last' }), row)
    expect(learned(last!)).toBe('(think)so long\n')
  })

  it('says what is wrong with a row', async () => {
    const fails = (row: Row, message: string) => expect(run(chat({ tokenizer }), row)).rejects.toThrow(message)
    await fails({ text: 'a' }, 'row 1: no field "messages"; found "text"')
    await fails({ messages: 'a' }, '"messages" is a string ("a"), want an array of {role, content}')
    await fails({ messages: [] }, '"messages" is an array of 0')
    await fails({ messages: ['a'] }, 'row 1, message 1: found a string ("a"), want an object')
    await fails(
      { messages: [{ role: 'user', content: 5 }] },
      'row 1, message 1: "content" is a number (5), want a string',
    )
    await fails({ messages: [{ role: 'user' }] }, 'row 1, message 1: no field "content"; found "role"')
    await fails(talk('hi'), 'row 1: no message of role "assistant" to learn from; found user')
    const strict = bytes({
      chat: () => {
        throw new Error('roles must alternate')
      },
    })
    await expect(run(chat({ tokenizer: strict }), talk('a', 'b'))).rejects.toThrow(
      'row 1: the chat template refuses the first 2 messages (roles must alternate)',
    )
    const { chat: _, ...plain } = tokenizer
    expect(() => chat({ tokenizer: plain })).toThrow('this tokenizer has no chat template')
  })

  it('notes a token that runs over the border of a turn', async () => {
    const notes: string[] = []
    const glued = { ...words(), chat: (list: readonly Message[]) => list.map((m) => m.content).join('') }
    await run(chat({ tokenizer: glued, note: (n) => notes.push(n) }), talk('ab', 'cd'))
    expect(notes).toEqual([expect.stringContaining('row 1: a token runs over the border of a turn')])
  })
})

describe('ids', () => {
  it('takes rows as they are', async () => {
    expect(await run(ids({ vocabulary: 9 }), { input_ids: [1, 8] }, { input_ids: [0, 2], labels: [-100, 2] })).toEqual([
      { ids: [1, 8], labels: [1, 8] },
      { ids: [0, 2], labels: [-100, 2] },
    ])
  })

  it('refuses anything else', async () => {
    const fails = (row: Row, message: string) => expect(run(ids({ vocabulary: 9 }), row)).rejects.toThrow(message)
    await fails({ ids: [1] }, 'row 1: no field "input_ids"; found "ids"')
    await fails({ input_ids: '1,2' }, '"input_ids" is a string ("1,2"), want an array of whole numbers')
    await fails({ input_ids: [1, 2.5] }, 'row 1: input_ids[1] is a number (2.5), want a whole number from 0')
    await fails({ input_ids: [-100] }, 'input_ids[0] is a number (-100)')
    await fails({ input_ids: [1, '2'] }, 'input_ids[1] is a string ("2")')
    await fails(
      { input_ids: [9] },
      'input_ids[0] is 9, outside the vocabulary of 9; were these ids made by another tokenizer?',
    )
    await fails(
      { input_ids: [1], labels: [-1] },
      'labels[0] is a number (-1), want a whole number from 0, or -100 for no loss',
    )
    await fails({ input_ids: [1], labels: [1, 2] }, 'row 1: 2 labels for 1 input_ids; give one label for each id')
  })
})

describe('learnable and truncate', () => {
  const example = (n: number, masked: number): Example => ({
    ids: Array.from({ length: n }, (_, i) => i),
    labels: Array.from({ length: n }, (_, i) => (i < masked ? -100 : i)),
  })
  const pass = (items: Example[], options = {}) => collect(learnable(options)(from(items)))

  it('refuse data that nothing can be learned from', async () => {
    await expect(pass([])).rejects.toThrow('the data holds no rows')
    await expect(pass([example(3, 3), example(1, 0)])).rejects.toThrow(
      'none of the 2 examples has a token to learn from',
    )
    await expect(pass([example(5, 1)], { vocabulary: 4 })).rejects.toThrow(
      "example 1: token 4 is outside the model's vocabulary of 4",
    )
    const notes: string[] = []
    expect(await pass([example(3, 3), example(3, 1)], { note: (n: string) => notes.push(n) })).toHaveLength(2)
    expect(notes).toEqual(['1 of 2 examples have no token to learn from'])
  })

  it('say once that something was cut', async () => {
    const notes: string[] = []
    const cut = await collect(
      truncate(2, { note: (n) => notes.push(n) })(from([example(2, 0), example(3, 1), example(0, 0), example(4, 0)])),
    )
    expect(cut.map(({ ids }) => ids.length)).toEqual([2, 2, 2])
    expect(notes).toEqual([expect.stringContaining('example 2 has 3 tokens, more than length 2')])
  })
})

describe('laziness', () => {
  const tokenizer = bytes()
  const talk = [{ role: 'assistant', content: 'a' }]
  const row = { text: 'a', prompt: 'p', completion: 'c', messages: talk, input_ids: [1, 2] }
  it.each([
    ['textExamples', textExamples({ tokenizer })],
    ['completion', completion({ tokenizer })],
    ['chat', chat({ tokenizer })],
    ['ids', ids()],
  ])('%s reads a row for an example, and closes its source', async (_, stage) => {
    const source = watched([row, row, row])
    for await (const example of stage(source)) {
      expect(example.ids.length).toBe(example.labels.length)
      break
    }
    expect(source).toMatchObject({ pulled: 1, closed: 1 })
  })

  it('learnable passes an example on before it pulls the next', async () => {
    const source = watched([
      { ids: [1], labels: [1] },
      { ids: [1], labels: [1] },
    ])
    for await (const _ of learnable()(source)) break
    expect(source).toMatchObject({ pulled: 1, closed: 1 })
  })
})
