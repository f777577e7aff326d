import type { Adapter, Tensor2D, Tokenizer } from '@weftjs/spec'
import { cpu, memory, mul, rng, zeros } from '@weftjs/tensor'
import { lowRank, sum } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import {
  attach,
  complete,
  type Generated,
  type GenerateOptions,
  generate,
  sample,
  score,
  stopScan,
} from '../src/index.ts'
import { likeliest, logSumExp } from '../src/sampling.ts'
import { distance, fixture } from './fixture.ts'

await cpu()
const { network, reference } = await fixture('llama')
const plain = attach(network, [], rng(0))
const prompt = [...(await reference.ints('generated'))].slice(0, 6)
const greedy = [...(await reference.ints('generated'))].slice(6)

/** id n is the character n + 32; 94 and 95 are special */
const letters: Tokenizer = {
  vocabulary: 96,
  encode: (text) => (text === '<end>' ? [94] : [...text].map((c) => c.charCodeAt(0) - 32)),
  decode: (ids, { skipSpecial = false } = {}) =>
    ids.map((n) => (n >= 94 ? (skipSpecial ? '' : '<end>') : String.fromCharCode(n + 32))).join(''),
}
const said = letters.decode(greedy)
const gather = async (
  options: GenerateOptions,
  prompts: readonly (readonly number[])[] = [prompt],
): Promise<Generated[]> => {
  const events: Generated[] = []
  for await (const event of generate(plain, prompts, { maxTokens: 16, ends: [], ...options })) events.push(event)
  return events
}

describe('generate', () => {
  it('streams tokens whose texts join to the answer, and says why it ended', async () => {
    const events = await gather({ tokenizer: letters })
    expect(events.map((e) => e.id)).toEqual(greedy)
    expect(events.map((e) => e.text).join('')).toBe(said)
    expect(events.map((e) => e.finish)).toEqual([...Array(15).fill(undefined), 'length'])
  })

  it('takes text as prompt and gives text', async () => {
    const [answer] = await complete(plain, letters.decode(prompt), { tokenizer: letters, maxTokens: 16 })
    expect(answer).toMatchObject({ text: said, ids: greedy, finish: 'length' })
  })

  it('reports log-probabilities of the model itself, equal to those of score, whatever the sampling', async () => {
    const options: GenerateOptions[] = [{}, { temperature: 2, topK: 20, repetitionPenalty: 1.5, seed: 4 }]
    for (const o of options) {
      const events = await gather(o)
      const { tokens } = await score(plain, {}, [...prompt, ...events.map((e) => e.id)])
      expect(
        distance(
          events.map((e) => e.logprob),
          tokens.slice(prompt.length).map((t) => t.logprob!),
        ),
      ).toBeLessThan(1e-4)
    }
  })

  it('names the likeliest tokens when asked', async () => {
    const events = await gather({ logprobs: 3 })
    for (const { id, logprob, top } of events) {
      expect(top).toHaveLength(3)
      expect(top![0]).toEqual({ id, logprob })
      expect(top![0]!.logprob).toBeGreaterThanOrEqual(top![1]!.logprob)
    }
    expect(events.map((e) => e.id)).toEqual(greedy)
  })

  it('gives the same text for the same seed, another for another, whatever the batch', async () => {
    const prompts = [prompt, [3, 4], [...prompt, 7, 8], [50]]
    const run = (o: GenerateOptions) =>
      complete(plain, prompts, { temperature: 1.2, maxTokens: 10, ends: [], seed: 1, ...o }).then((all) =>
        all.map((c) => c.ids),
      )
    const one = await run({ batch: 1 })
    expect(await run({ batch: 4 })).toEqual(one)
    expect(await run({ batch: 3 })).toEqual(one)
    const other = await run({ seed: 2 })
    for (const row of prompts.keys()) expect(other[row]).not.toEqual(one[row])
  })

  it('goes on with the other rows when one ends', async () => {
    const prompts = [prompt, [3, 4], [9, 9, 9]]
    const alone = await Promise.all(
      prompts.map(async (p) => (await complete(plain, [p], { maxTokens: 16, ends: [greedy[4]!] }))[0]),
    )
    const batch = await complete(plain, prompts, { maxTokens: 16, ends: [greedy[4]!] })
    expect(batch.map((r) => [r.ids, r.finish])).toEqual(alone.map((r) => [r!.ids, r!.finish]))
    expect(batch[0]!.finish).toBe('end')
    expect(new Set(batch.map((r) => r.ids.length)).size).toBeGreaterThan(1)
  })

  it('cuts at a stop string across tokens, exactly, and shows nothing of it before', async () => {
    for (const [from, to] of [
      [3, 5],
      [5, 6],
      [0, 2],
      [12, 16],
    ] as const) {
      const stop = said.slice(from, to)
      const events = await gather({ tokenizer: letters, stop: [stop, 'never said'] })
      const text = events.map((e) => e.text).join('')
      expect(text).toBe(said.slice(0, said.indexOf(stop)))
      expect(events.at(-1)!.finish).toBe('stop')
      expect(events).toHaveLength(said.indexOf(stop) + stop.length)
    }
  })

  it('gives what it held back for a stop string that does not come', async () => {
    const events = await gather({ tokenizer: letters, stop: `${said.slice(-2)}~` })
    expect(events.map((e) => e.text).join('')).toBe(said)
    expect(events.at(-1)).toMatchObject({ text: said.slice(-2), finish: 'length' })
  })

  it('stops at a special token that is named as a stop string', async () => {
    const special: Tokenizer = {
      ...letters,
      encode: (t) => (t === '<end>' ? [greedy[5]!] : letters.encode(t)),
      decode: (ids, { skipSpecial = false } = {}) =>
        letters.decode(skipSpecial ? ids.filter((n) => n !== greedy[5]) : ids),
    }
    const events = await gather({ tokenizer: special, stop: '<end>' })
    expect(events).toHaveLength(greedy.indexOf(greedy[5]!) + 1)
    expect(events.at(-1)!.finish).toBe('stop')
  })

  it('takes the ends of texts from the tokenizer', async () => {
    const [a] = await complete(plain, [prompt], { tokenizer: { ...letters, eos: greedy[3]! }, maxTokens: 16 })
    expect(a!.ids).toEqual(greedy.slice(0, 4))
    expect(a!.text).toBe(said.slice(0, 3))
    const tokenizer = { ...letters, eos: 0, ends: [greedy[6]!, greedy[2]!] }
    const [b] = await complete(plain, [prompt], { tokenizer, maxTokens: 16 })
    expect(b!.ids).toEqual(greedy.slice(0, 3))
  })

  it('generates with adapters, by the values given', async () => {
    const nudge: Adapter<{ a: Tensor2D; b: Tensor2D }> = {
      name: 'nudge',
      init: (site, ctx) => ({
        state: { a: ctx.rng.normal([2, site.in]) as Tensor2D, b: zeros([site.out, 2]) as Tensor2D },
      }),
      weight: (base, { a, b }) => sum(base, lowRank(b, a)),
    }
    const tuned = attach(network, [{ adapter: nudge, at: 'blocks.*.attn.{q,v}' }], rng(3))
    const answer = async (o: GenerateOptions) =>
      (await complete(tuned, [prompt], { maxTokens: 16, ends: [], ...o }))[0]!.ids
    expect(await answer({})).toEqual(greedy)
    const params = Object.fromEntries(
      Object.entries(tuned.params).map(([n, t], i) => [n, n.endsWith('.b') ? mul(rng(i).normal(t.shape), 0.3) : t]),
    )
    const adapted = await answer({ params })
    expect(adapted).not.toEqual(greedy)
    const folded = attach(tuned.fold(params), [], rng(0))
    expect((await complete(folded, [prompt], { maxTokens: 16, ends: [] }))[0]!.ids).toEqual(adapted)
  })

  it('frees everything: at the end, when left early, when aborted, when it fails', async () => {
    await gather({})
    const before = memory().numTensors
    await gather({ temperature: 1 }, [prompt, [1]])
    expect(memory().numTensors).toBe(before)
    for await (const _ of generate(plain, [prompt])) break
    expect(memory().numTensors).toBe(before)

    const stop = new AbortController()
    let seen = 0
    const run = async (): Promise<void> => {
      for await (const _ of generate(plain, [prompt], { signal: stop.signal, ends: [] })) if (++seen === 3) stop.abort()
    }
    await expect(run()).rejects.toMatchObject({ name: 'AbortError' })
    expect(seen).toBe(3)
    expect(memory().numTensors).toBe(before)

    const tuned = attach(network, [], rng(0))
    const broken = {
      ...tuned,
      run: () => {
        throw new Error('the device is lost')
      },
    }
    await expect(complete(broken, [prompt])).rejects.toThrow('the device is lost')
    expect(memory().numTensors).toBe(before)
  })

  it('holds the same number of tensors at every step', async () => {
    await gather({})
    const counts: number[] = []
    for await (const _ of generate(plain, [prompt], { maxTokens: 12, ends: [] })) counts.push(memory().numTensors)
    expect(new Set(counts).size).toBe(1)
  })

  it('lets other work run', async () => {
    let ticks = 0
    const timer = setInterval(() => ticks++, 1)
    await complete(plain, [prompt], { maxTokens: 40, ends: [] })
    clearInterval(timer)
    expect(ticks).toBeGreaterThan(1)
  })

  it('refuses or cuts a prompt that leaves no room, and stops at the length of the model', async () => {
    const long = Array.from({ length: 70 }, (_, i) => i)
    await expect(complete(plain, [long])).rejects.toThrow(
      "prompt 0 has 70 tokens and the model takes 64 with the answer; shorten it, or pass overflow: 'truncate' to keep its end",
    )
    const cut = await complete(plain, [long], { overflow: 'truncate', maxTokens: 10, ends: [] })
    const same = await complete(plain, [long.slice(-54)], { maxTokens: 10, ends: [] })
    expect(cut[0]!.ids).toEqual(same[0]!.ids)
    const [short] = await complete(plain, [long.slice(0, 60)], { maxTokens: 10, ends: [] })
    expect(short).toMatchObject({ finish: 'length' })
    expect(short!.ids).toHaveLength(4)
  })

  it.each<[GenerateOptions & { prompts?: never }, string]>([
    [{ temperature: -1 }, 'temperature must be a number ≥ 0, found -1'],
    [{ temperature: '1' as never }, 'temperature must be a number ≥ 0, found "1"'],
    [{ topK: 0 }, 'topK must be an integer ≥ 1, found 0'],
    [{ topP: 1.5 }, 'topP must be in (0, 1], found 1.5'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty must be a number > 0, found 0'],
    [{ maxTokens: 0 }, 'maxTokens must be an integer ≥ 1, found 0'],
    [{ batch: 1.5 }, 'batch must be an integer ≥ 1, found 1.5'],
    [{ stop: '', tokenizer: letters }, 'stop must hold non-empty strings, found ""'],
    [{ stop: 'x' }, "stop needs the model's `tokenizer`; pass it, or `ends` with token ids"],
  ])('refuses %o', async (options, message) => {
    await expect(complete(plain, [prompt], options)).rejects.toThrow(message)
  })

  it('refuses prompts that the model cannot read', async () => {
    await expect(complete(plain, 'text')).rejects.toThrow("prompt 0 is text: pass the model's `tokenizer`")
    await expect(complete(plain, [[1], []])).rejects.toThrow('prompt 1 is empty')
    await expect(complete(plain, [[1, 96]])).rejects.toThrow(
      "prompt 0: token 96 at place 1 is outside the model's vocabulary of 96; use the tokenizer that belongs to the model",
    )
    const { network } = await fixture('bert')
    await expect(complete(attach(network, [], rng(0)), [prompt])).rejects.toThrow(
      'generate: bert does not predict the next token',
    )
  })

  it('says that logits are not finite', async () => {
    const vectors = { ...network.vectors, norm: mul(network.vectors['norm']!, Number.NaN) }
    await expect(complete(attach({ ...network, vectors }, [], rng(0)), [prompt])).rejects.toThrow(
      'prompt 0, token 6: the logits are not finite',
    )
  })
})

describe('sample', () => {
  const logits = Float32Array.from([1, 3, -2, 2.5, 0, 3])
  const p = Array.from(logits, (z) => Math.exp(z - logSumExp(logits)))
  const draw = (n: number, options: object, seen: number[] = []): number[] => {
    const r = rng(5)
    const counts = new Array<number>(logits.length).fill(0)
    for (let i = 0; i < n; i++) counts[sample(logits, seen, r, options)]!++
    return counts
  }
  const kept = (options: object): number[] => draw(3000, options).flatMap((n, i) => (n ? [i] : []))

  it('draws in proportion to the probabilities', () => {
    const n = 20_000
    for (const [i, count] of draw(n, { temperature: 1 }).entries())
      expect(Math.abs(count - n * p[i]!)).toBeLessThan(4 * Math.sqrt(n * p[i]! * (1 - p[i]!)) + 1)
  })
  it('divides by the temperature', () => {
    const n = 20_000
    const z = Float32Array.from(logits, (x) => x / 3)
    for (const [i, count] of draw(n, { temperature: 3 }).entries()) {
      const q = Math.exp(z[i]! - logSumExp(z))
      expect(Math.abs(count - n * q)).toBeLessThan(4 * Math.sqrt(n * q * (1 - q)) + 1)
    }
    expect(kept({ temperature: 1e-9 })).toEqual([1, 5])
  })
  it('keeps the k likeliest, with their equals', () => {
    expect(kept({ temperature: 1, topK: 3 })).toEqual([1, 3, 5])
    expect(kept({ temperature: 1, topK: 1 })).toEqual([1, 5])
    expect(kept({ temperature: 1, topK: 100 })).toHaveLength(6)
  })
  it('keeps the fewest that reach p', () => {
    // 0.366, 0.366, 0.222, 0.050, ...
    expect(kept({ temperature: 1, topP: 0.3 })).toEqual([1])
    expect(kept({ temperature: 1, topP: 0.5 })).toEqual([1, 5])
    expect(kept({ temperature: 1, topP: 0.75 })).toEqual([1, 3, 5])
    expect(kept({ temperature: 1, topP: 0.75, topK: 2 })).toEqual([1, 5])
  })
  it('pushes down what has occurred, on either side of zero', () => {
    const r = rng(0)
    expect(sample(logits, [1, 5], r, { repetitionPenalty: 1.3 })).toBe(3)
    expect(sample(Float32Array.from([-1, -1.2]), [0], r, { repetitionPenalty: 1.3 })).toBe(1)
    expect(sample(logits, [], r, { repetitionPenalty: 1.3 })).toBe(1)
  })
  it('leaves the logits as they are', () => {
    const before = logits.slice()
    draw(3, { temperature: 1, topK: 2, repetitionPenalty: 2 }, [1])
    expect(logits).toEqual(before)
  })
  it('lists the likeliest', () => {
    expect(likeliest(logits, 3).map((t) => t.id)).toEqual([1, 5, 3])
    expect(likeliest(logits, 99)).toHaveLength(6)
    expect(likeliest(logits, 1)[0]!.logprob).toBeCloseTo(Math.log(p[1]!), 6)
  })
})

describe('stopScan', () => {
  const run = (text: string, stops: string[], cuts: number[]): string => {
    const scan = stopScan(stops)
    let out = ''
    let at = 0
    for (const to of [...cuts, text.length]) {
      out += scan.push(text.slice(at, to))
      at = to
    }
    return out + (scan.stopped ? '|' : scan.flush())
  }
  it('gives the same wherever the pieces break', () => {
    const cases: [string, string[], string][] = [
      ['abcabd', ['abd'], 'abc|'],
      ['aaab', ['aab'], 'a|'],
      ['xabcd', ['abcd', 'bc'], 'xa|'],
      ['xbc', ['bc', 'xbc'], '|'],
      ['ababab', ['abc'], 'ababab'],
      ['a', ['a'], '|'],
    ]
    for (const [text, stops, want] of cases) {
      for (let mask = 0; mask < 1 << (text.length - 1); mask++) {
        const cuts = Array.from({ length: text.length - 1 }, (_, i) => i + 1).filter((i) => mask & (1 << (i - 1)))
        expect(run(text, stops, cuts)).toBe(want)
      }
    }
  })
})

describe('score', async () => {
  const ids = [...(await reference.ints('input_ids'))].slice(0, 14)
  const want = (await reference.floats('logits')).subarray(0, 14 * 96)
  it('gives the log-probabilities and logits of one plain pass, in chunks of any size', async () => {
    for (const chunk of [1, 5, 14, 128]) {
      const got = await score(plain, {}, ids, { chunk, logits: true })
      expect(got.logits!.shape).toEqual([14, 96])
      expect(distance(got.logits!.data, want)).toBeLessThan(1e-4)
      expect(got.tokens.map((t) => t.id)).toEqual(ids)
      expect(got.tokens[0]!.logprob).toBeNull()
      const exact = ids.slice(1).map((id, t) => {
        const row = want.subarray(t * 96, (t + 1) * 96)
        return row[id]! - logSumExp(row)
      })
      expect(
        distance(
          got.tokens.slice(1).map((t) => t.logprob!),
          exact,
        ),
      ).toBeLessThan(1e-4)
      expect(got.loss).toBeCloseTo(-exact.reduce((a, b) => a + b) / 13, 5)
      expect((await score(plain, {}, ids, { chunk })).logits).toBeUndefined()
    }
  })
  it('frees everything, and takes a single token', async () => {
    const before = memory().numTensors
    expect(await score(plain, {}, [3])).toEqual({ loss: null, tokens: [{ id: 3, logprob: null }] })
    expect(memory().numTensors).toBe(before)
  })
  it('refuses what the model cannot read', async () => {
    await expect(score(plain, {}, [])).rejects.toThrow('the text has no tokens; give at least one')
    await expect(score(plain, {}, new Array(65).fill(1))).rejects.toThrow(
      'the text has 65 tokens and the model takes 64; score it in pieces of that length',
    )
    await expect(score(plain, {}, [1, -1])).rejects.toThrow(
      "the text: token -1 at place 1 is outside the model's vocabulary",
    )
    await expect(score(plain, {}, [1], { chunk: 0 })).rejects.toThrow('chunk must be an integer ≥ 1, found 0')
  })
})
