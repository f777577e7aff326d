import type { Batch } from '@weftjs/spec'
import { rng } from '@weftjs/tensor/rng'
import { describe, expect, it } from 'vitest'
import { collect, from, type PrepareOptions, pipe, prepare, read, take } from '../src/index.ts'
import { bytes, EOS, PAD, stream, utf } from './toy.ts'

const rows = Array.from({ length: 23 }, (_, i) => ({
  text: 'abcdefgh'.slice(0, 1 + (i % 8)) + String.fromCharCode(65 + i),
}))
const base: PrepareOptions = { format: 'text', tokenizer: bytes(), length: 16, batch: 3, rng: rng(7) }
const real = (batches: readonly Batch[]) =>
  batches.flatMap(({ ids, segments }) => Array.from(ids).filter((_, i) => segments[i]! > 0))
const documents = (batches: readonly Batch[]) => real(batches).filter((id) => id === EOS).length
const sorted = (list: readonly number[]) => [...list].sort((a, b) => a - b)

describe('prepare', () => {
  it('gives each epoch every token once, in another order, the same for the same seed', async () => {
    const run = async (options: Partial<PrepareOptions>) =>
      collect(prepare(from(rows), { ...base, ...options }).batches())
    const [one, two] = [await run({ epochs: 1 }), await run({ epochs: 2 })]
    expect(two.slice(0, one.length)).toEqual(one)
    const second = two.slice(one.length)
    expect(sorted(real(second))).toEqual(sorted(real(one)))
    expect(real(second)).not.toEqual(real(one))
    expect(documents(one)).toBe(rows.length)
    expect(await run({ epochs: 2, rng: rng(7) })).toEqual(two)
    expect(await run({ epochs: 1, rng: rng(8) })).not.toEqual(one)
    expect(
      one.every(
        ({ shape, ids, segments }) =>
          shape[0] === 3 && shape[1] === 16 && ids.every((id, i) => (segments[i] === 0) === (id === PAD)),
      ),
    ).toBe(true)
  })

  it.each([
    ['in memory', {}],
    ['streaming', { buffer: 5 }],
    ['unpacked', { pack: false }],
    ['with a part set aside', { validation: 0.2 }],
  ])('goes on from any batch, %s', async (_, options) => {
    const whole = await collect(prepare(from(rows), { ...base, ...options, epochs: 3 }).batches())
    expect(whole.length).toBeGreaterThan(6)
    for (const skip of [0, 1, 4, whole.length - 1, whole.length])
      expect(await collect(prepare(from(rows), { ...base, ...options, epochs: 3 }).batches({ skip }))).toEqual(
        whole.slice(skip),
      )
  })

  it('without epochs has no end, reads the rows once, and stops when told', async () => {
    const endless = prepare(stream(rows), base)
    expect(await collect(pipe(endless.batches(), take(40)))).toHaveLength(40)
    const spent = prepare(stream(rows), { ...base, buffer: 4 })
    await expect(collect(spent.batches())).rejects.toThrow('a stream, which can be read only once')
  })

  it('sets examples aside that training never sees', async () => {
    const made = prepare(from(rows), { ...base, validation: 0.25, epochs: 1 })
    const [train, held] = [await collect(made.batches()), await collect(made.validation())]
    expect(documents(train) + documents(held)).toBe(rows.length)
    expect([5, 6]).toContain(documents(held))
    expect(sorted([...real(train), ...real(held)])).toEqual(
      sorted(real(await collect(prepare(from(rows), { ...base, epochs: 1 }).batches()))),
    )
    expect(await collect(prepare(from(rows), base).validation())).toEqual([])
  })

  it('keeps prepared ids in the order of the file, one row to an example', async () => {
    const file = '{"input_ids":[5,6,7]}\n{"input_ids":[8,9],"labels":[-100,9]}\n{"input_ids":[1,2,3,4,5]}\n'
    const made = prepare(read(utf(file), { as: 'jsonl' }), {
      format: 'ids',
      length: 4,
      batch: 2,
      epochs: 1,
      vocabulary: 10,
    })
    const [first, second] = await collect(made.batches())
    expect(Array.from(first!.ids)).toEqual([5, 6, 7, 0, 8, 9, 0, 0])
    expect(Array.from(first!.targets)).toEqual([6, 7, -100, -100, 9, -100, -100, -100])
    expect(Array.from(second!.ids)).toEqual([1, 2, 3, 4, 0, 0, 0, 0])
    expect(Array.from(second!.segments)).toEqual([1, 1, 1, 1, 0, 0, 0, 0])
    expect(made.notes).toEqual([expect.stringContaining('example 3 has 5 tokens, more than length 4')])
  })

  it('completion and chat go through', async () => {
    const asked = prepare(from([{ question: 'a', answer: 'b' }]), {
      ...base,
      format: 'completion',
      batch: 1,
      epochs: 1,
    })
    const [batch] = await collect(asked.batches())
    expect(Array.from(batch!.targets.slice(0, 6))).toEqual([-100, -100, 98, EOS, -100, -100])
    const talk = {
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
      ],
    }
    const [turn] = await collect(
      prepare(from([talk]), { ...base, length: 64, format: 'chat', batch: 1, epochs: 1 }).batches(),
    )
    expect(Array.from(turn!.targets).filter((t) => t !== -100)).toEqual([98, 10])
  })

  it('says what is wrong before or while it reads', async () => {
    const fails = (options: Partial<PrepareOptions>, message: string, data: Record<string, unknown>[] = rows) =>
      expect(
        (async () => collect(prepare(from(data), { ...base, epochs: 1, ...options }).batches()))(),
      ).rejects.toThrow(message)
    await fails({}, 'the data holds no rows', [])
    await fails({ vocabulary: 100 }, "outside the model's vocabulary of 100; the tokenizer does not match the model")
    await fails({ format: 'completion' }, 'row 1: no field "prompt"; found "text"')
    await fails({ format: 'poem' as 'text' }, 'no format "poem"; there are text, completion, chat, ids')
    await fails({ last: 'drop', batch: 1000 }, 'an epoch has no batch')
    await fails({ length: 4, format: 'completion' }, 'none of the 1 examples has a token to learn from', [
      { prompt: 'long prompt', completion: 'x' },
    ])
    const { rng: _, ...unseeded } = base
    expect(() => prepare(from(rows), unseeded)).toThrow(
      'shuffle needs a random generator; give rng, for instance rng(seed)',
    )
    const { tokenizer: __, ...bare } = base
    expect(() => prepare(from(rows), bare)).toThrow('the format "text" needs a tokenizer')
  })
})
