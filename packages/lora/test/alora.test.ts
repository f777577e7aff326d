import { attach, complete, kvCache, nextToken, type Tuned } from '@weftjs/model'
import type { Params } from '@weftjs/spec'
import { add, backprop, cpu, mapParams, rng, type Tensor, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { alora } from '../src/alora.ts'
import { lora } from '../src/lora.ts'
import { distance, model } from './fixture.ts'

await cpu()
const TOKENS = [7, 8]
const AT = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
const network = await model('llama')
const moved = ({ params }: Tuned): Params => mapParams(params, (p, n) => add(p, rng(9).fork(n).normal(p.shape, 0.2)))
const tuned = attach(network, [{ adapter: alora({ rank: 3, alpha: 5, tokens: TOKENS }), at: AT, name: 'x' }], rng(1))
const params = moved(tuned)
/** plain LoRA with the same values */
const always = attach(network, [{ adapter: lora({ rank: 3, alpha: 5 }), at: AT, name: 'x' }], rng(1))
const base = attach(network, [], rng(0))
const ints = (rows: readonly (readonly number[])[]): Tensor =>
  tensor(rows.flat(), [rows.length, rows[0]!.length], 'int32')
const V = network.config.vocabulary
/** logits of each token of each row */
const logits = (t: Tuned, p: Params, rows: readonly (readonly number[])[], options = {}): Float32Array[][] => {
  const all = t.forward(p, { ids: ints(rows) }, options).logits.dataSync<'float32'>()
  const T = rows[0]!.length
  return rows.map((_, b) => Array.from({ length: T }, (_, t) => all.subarray((b * T + t) * V, (b * T + t + 1) * V)))
}

describe('alora', () => {
  it('is the base before the invocation and not from it on; without one it is the base', () => {
    const rows = [
      [5, 6, 7, 8, 9, 10],
      [5, 7, 9, 8, 7, 10],
    ]
    const [mine, plain] = [logits(tuned, params, rows), logits(base, {}, rows)]
    for (const t of [0, 1]) expect(distance(mine[0]![t]!, plain[0]![t]!)).toBe(0)
    for (const t of [2, 3, 4, 5]) expect(distance(mine[0]![t]!, plain[0]![t]!), `token ${t}`).toBeGreaterThan(1e-2)
    for (const t of [0, 1, 2, 3, 4, 5]) expect(distance(mine[1]![t]!, plain[1]![t]!)).toBe(0)
  })

  it('is plain LoRA where the text begins with the invocation', () => {
    const rows = [[7, 8, 3, 4, 5]]
    const [mine, plain] = [logits(tuned, params, rows), logits(always, params, rows)]
    for (const t of [0, 1, 2, 3, 4]) expect(distance(mine[0]![t]!, plain[0]![t]!)).toBeLessThan(1e-5)
  })

  it('counts from the last of several invocations, and in its own text where rows are packed', () => {
    const [twice] = logits(tuned, params, [[7, 8, 3, 7, 8, 4]])
    const [plain] = logits(base, {}, [[7, 8, 3, 7, 8, 4]])
    for (const t of [0, 1, 2]) expect(distance(twice![t]!, plain![t]!)).toBe(0)
    expect(distance(twice![3]!, plain![3]!)).toBeGreaterThan(1e-2)
    const [one, two] = [
      [3, 7, 8, 4],
      [5, 7, 8],
    ]
    const packed = tuned.forward(params, {
      ids: ints([[...one, ...two]]),
      positions: ints([[0, 1, 2, 3, 0, 1, 2]]),
      segments: ints([[1, 1, 1, 1, 2, 2, 2]]),
    }).logits
    const apart = [...logits(tuned, params, [one])[0]!, ...logits(tuned, params, [two])[0]!].flatMap((x) => [...x])
    expect(distance(packed.dataSync(), apart)).toBeLessThan(1e-4)
  })

  it('leaves keys and values of earlier tokens as they are in the base, bit by bit', () => {
    const rows = [[5, 6, 4, 7, 8, 9]]
    const keys = (t: Tuned, p: Params): Float32Array[] => {
      const cache = kvCache(network.config)
      const held: Float32Array[] = []
      const spy = {
        ...cache,
        get length() {
          return cache.length
        },
        extend: (layer: number | string, k: Tensor, v: Tensor) => {
          const all = cache.extend(layer, k, v)
          if (typeof layer === 'number') for (const x of [k, v]) held.push(x.dataSync<'float32'>())
          return all
        },
      }
      t.run(p, { ids: ints(rows) }, { cache: spy })
      cache.dispose()
      return held
    }
    const [mine, plain] = [keys(tuned, params), keys(base, {})]
    const { kvHeads: G, headWidth: S } = network.config
    expect(mine).toHaveLength(2 * network.config.layers)
    for (const [i, x] of mine.entries())
      for (let g = 0; g < G; g++) {
        const at = (t: number): number => (g * 6 + t) * S
        expect(distance(x.subarray(at(0), at(3)), plain[i]!.subarray(at(0), at(3)))).toBe(0)
        expect(distance(x.subarray(at(3), at(6)), plain[i]!.subarray(at(3), at(6)))).toBeGreaterThan(1e-3)
      }
  })

  it('generates with a cache what it gives without one, in padded batches and among other adapters', async () => {
    const prompts = [
      [5, 6, 7, 8, 9],
      [7, 8, 4],
      [5, 6, 9, 10],
    ]
    const slowly = (prompt: number[], t: Tuned, p: Params): number[] => {
      const ids = [...prompt]
      for (let i = 0; i < 6; i++) {
        const last = logits(t, p, [ids])[0]!.at(-1)!
        ids.push(last.indexOf(Math.max(...last)))
      }
      return ids.slice(prompt.length)
    }
    const want = prompts.map((p) => slowly(p, tuned, params))
    const plain = prompts.map((p) => slowly(p, base, {}))
    expect(want[0]).not.toEqual(plain[0])
    expect(want[2]).toEqual(plain[2])
    const options = { params, maxTokens: 6, ends: [] }
    const ids = async (more: object): Promise<number[][]> =>
      (await complete(tuned, prompts, { ...options, ...more })).map((r) => [...r.ids])
    expect(await ids({ batch: 1 })).toEqual(want)
    expect(await ids({})).toEqual(want)
    expect(await ids({ rows: [['x'], [], ['x']] })).toEqual([want[0], plain[1], want[2]])
    expect(await ids({ rows: [[], ['x'], []] })).toEqual([plain[0], want[1], plain[2]])
  })

  it('trains on called tokens only, the same where blocks are computed again', () => {
    const ids = [5, 6, 7, 8, 9, 10]
    const grads = (targets: number[], recompute: boolean): Params =>
      backprop(
        (p) =>
          nextToken(tuned.run(p, { ids: ints([ids]) }, { training: true, recompute }), {
            shape: [1, 6],
            targets: Int32Array.from(targets),
          }),
        params,
      ).grads
    const before = grads([6, 7, -100, -100, -100, -100], false)
    for (const g of Object.values(before)) expect(distance(g.dataSync(), new Float32Array(g.size))).toBe(0)
    const [one, two] = [false, true].map((again) => grads([-100, -100, -100, 9, 10, 11], again))
    for (const [name, g] of Object.entries(one!)) {
      expect(distance(g.dataSync(), new Float32Array(g.size)), name).toBeGreaterThan(0)
      expect(distance(g.dataSync(), two![name]!.dataSync()), name).toBeLessThan(1e-5)
    }
  })

  it.each([
    [{}, AT, /alora: tokens must be the ids of the sequence that calls it, found none/],
    [{ tokens: [1.5] }, AT, /tokens must be the ids .* found \[1.5\]/],
    [{ tokens: [3] }, 'embed', /embed: alora acts on linear places, and this is of kind embed/],
    [{ tokens: [3], rank: 99 }, AT, /rank 99 exceeds/],
  ])('refuses %j at %s', (options, at, message) => {
    expect(() => attach(network, [{ adapter: alora(options), at }], rng(0))).toThrow(message)
  })

  it('does not act where tokens are no longer one by one', async () => {
    const moe = await model('mixtral')
    const expert = attach(moe, [{ adapter: alora({ tokens: [3], rank: 2 }), at: 'blocks.*.mlp.experts.*.up' }], rng(0))
    expect(() => expert.forward(expert.params, { ids: ints([[3, 4, 5]]) })).toThrow(
      /experts.*x \[\d+,32\] is not the tokens \[1,3\] one by one/,
    )
  })
})
