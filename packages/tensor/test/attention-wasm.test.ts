import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'
import { type Case, difference, evaluate, exactly, floats } from './conformance/case.ts'

beforeAll(async () => {
  await w.wasm()
})
const { attention } = w

/** batch, query heads, key-value heads, queries, keys, widths of keys and of values */
type Sizes = readonly [B: number, H: number, G: number, T: number, K: number, S: number, V: number]
const few: Sizes[] = [
  [1, 1, 1, 1, 1, 3, 1],
  [2, 6, 2, 1, 77, 64, 64],
  [1, 3, 1, 4, 9, 5, 19],
  [1, 4, 4, 3, 3, 8, 7],
]
const tiled: Sizes[] = [
  [2, 4, 2, 7, 7, 5, 5],
  [1, 2, 1, 19, 37, 12, 20],
  [1, 2, 2, 131, 131, 16, 16], // over a tile's rows
  [2, 2, 1, 6, 523, 4, 6], // over a tile's keys
  [1, 2, 1, 261, 1043, 8, 8],
]
const options = fc.constantFrom<w.AttentionOptions[]>(
  {},
  { causal: true },
  { causal: true, window: 1 },
  { causal: true, window: 150 },
  { window: 3 },
  { causal: true, softcap: 2 },
  { softcap: 0.5, scale: 1 },
  { causal: true, scale: -0.7, window: 60, softcap: 30 },
)
const biases = fc.constantFrom<('none' | 'all' | 'keys' | 'heads' | 'rank 2' | 'one')[]>(
  ...(['none', 'none', 'all', 'keys', 'heads', 'rank 2', 'one'] as const),
)

const cases = (sizes: Sizes[]): fc.Arbitrary<Case> =>
  fc
    .tuple(fc.constantFrom(...sizes), options, biases, fc.constantFrom([0, 1, 2], [0], [1], [2], [0, 1, 2, 3]))
    .chain(([[B, H, G, T, K, S, V], o, kind, wrt]) => {
      const shapes = { none: [], all: [B, H, T, K], keys: [B, 1, 1, K], heads: [H, T, K], 'rank 2': [T, K], one: [1] }
      return fc
        .tuple(
          floats([B, H, T, S]),
          floats([B, G, K, S]),
          floats([B, G, K, V]),
          kind === 'none' ? fc.constant(exactly([1], [0], 'int32')) : floats([...shapes[kind]]),
        )
        .map((inputs) => ({
          inputs,
          f: (q, k, v, b) => attention(q!, k!, v!, kind === 'none' ? undefined : b, o),
          wrt: kind === 'none' ? wrt.filter((i) => i < 3) : wrt,
          note: `${JSON.stringify(o)} bias ${kind} ${inputs.map((x) => `[${x.shape}]`)} wrt ${wrt}`,
        }))
    })

const both = async (c: Case, tolerance = 1e-5): Promise<void> => {
  const fast = await evaluate(c)
  w.kernels.plain = true
  const plain = await evaluate(c).finally(() => {
    w.kernels.plain = false
  })
  expect(difference(fast.results, plain.results, tolerance), c.note).toBeUndefined()
  expect(fast.leak, c.note).toBe(0)
}

describe('attention on the heap does as its reference', () => {
  it('row by row', () =>
    fc.assert(
      fc.asyncProperty(cases(few), (c) => both(c)),
      { numRuns: 40, seed: 3 },
    ))
  it('in tiles', () =>
    fc.assert(
      fc.asyncProperty(cases(tiled), (c) => both(c)),
      { numRuns: 40, seed: 4 },
    ))

  it('where queries before the first key see nothing', () =>
    both({
      inputs: [exactly([1, 1, 7, 2], [1, 2, 3]), exactly([1, 1, 5, 2], [2, 1, 0]), exactly([1, 1, 5, 2], [1, 5])],
      f: (q, k, v) => attention(q!, k!, v!, undefined, { causal: true }),
    }))

  it('with scores that leave one key only, and with scores that leave float32', async () => {
    const of = (scores: number[]): Case => ({
      inputs: [exactly([1, 1, 6, 1], [1]), exactly([1, 1, 3, 1], scores), exactly([1, 1, 3, 1], [1, 2, 3])],
      f: (q, k, v) => attention(q!, k!, v!, undefined, { scale: 1 }),
    })
    await both(of([-300, 300, 0]))
    await both(of([1e4, -1e4, 1e4]))
    const { results } = await evaluate({ ...of([1, Number.NaN, 2]), wrt: [] })
    expect(Array.from(results[0]!.values)).toEqual(Array(6).fill(Number.NaN))
  })

  it('with keys hidden by a bias', () =>
    both({
      inputs: [
        exactly([1, 2, 5, 1], [1, -2]),
        exactly([1, 1, 5, 1], [1, 2, 3]),
        exactly([1, 1, 5, 1], [4, 5, 6]),
        exactly([1, 1, 1, 5], [-1e9, -1e9, 0, 0, 0]),
      ],
      f: (q, k, v, b) => attention(q!, k!, v!, b!, {}),
      wrt: [0, 1, 2],
    }))
})

describe('with room for more keys', () => {
  const { slice, rng } = w
  for (const [T, K, room] of [
    [1, 9, 16],
    [3, 9, 10],
    [8, 8, 64],
    [150, 600, 700],
  ] as const)
    it(`${T} queries see ${K} of ${room}`, () => {
      const random = rng(T)
      const [B, G, S] = [2, 2, 6]
      const q = random.normal([B, 4, T, S])
      // nothing of the room is read: it is not a number
      const there = random.normal([B, G, K, S])
      const rest = w.fill([B, G, room - K, S], Number.NaN)
      const k = w.concat([there, rest], 2)
      const run = (o: w.AttentionOptions, x: w.Tensor): Float32Array =>
        w.tidy(() => attention(q, x, x, undefined, o).dataSync()) as Float32Array
      for (const o of [{ causal: true }, { causal: true, window: 5 }, { softcap: 3 }]) {
        const right = run(o, slice(k, [0, 0, 0, 0], [B, G, K, S]))
        const got = run({ ...o, keys: K }, k)
        expect(Math.max(...got.map((y, i) => Math.abs(y - right[i]!)))).toBeLessThan(1e-5)
        w.kernels.plain = true
        const plain = run({ ...o, keys: K }, k)
        w.kernels.plain = false
        expect(Math.max(...got.map((y, i) => Math.abs(y - plain[i]!)))).toBeLessThan(1e-5)
      }
      w.dispose([q, there, rest, k])
    })
})

it('never holds the scores of all queries and keys', () => {
  const [T, S] = [600, 8]
  const random = w.rng(1)
  const [q, k, v] = [1, 2, 3].map(() => random.normal([1, 2, T, S])) as [w.Tensor, w.Tensor, w.Tensor]
  const peak = w.peakBytes()
  const most = (plain: boolean): number => {
    w.kernels.plain = plain
    peak.reset()
    const before = peak.bytes
    const { value, grads } = w.gradients(() => w.sum(attention(q, k, v, undefined, { causal: true })), [q, k, v])
    w.dispose([value, ...(grads as w.Tensor[])])
    w.kernels.plain = false
    return peak.bytes - before
  }
  expect(most(true)).toBeGreaterThan(2 * T * T * 4)
  expect(most(false)).toBeLessThan(20 * q.size * 4)
  w.dispose([q, k, v])
})
