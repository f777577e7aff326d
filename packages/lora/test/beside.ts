import { attach, complete, type Tuned } from '@weftjs/model'
import type { Adapter, Params, RunContext, Site } from '@weftjs/spec'
import { add, countParams, cpu, mapParams, rng, type Tensor, tensor, tidy } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { expect } from 'vitest'
import { distance } from './fixture.ts'

await cpu()

export const network: ReturnType<typeof tinyLlama> = tinyLlama(rng(0))
export const biased: ReturnType<typeof tinyLlama> = tinyLlama(rng(1), { biases: true })
export const ids = (): Tensor => tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [2, 5], 'int32')

export const logits = (tuned: Tuned, params: Params = tuned.params, options: object = {}): Tensor =>
  tuned.forward(params, { ids: ids() }, options).logits

/** away from a start, where too much is zero to tell anything */
export const moved = ({ params }: Tuned, by = 0.1): Params =>
  mapParams(params, (p, n) => add(p, rng(7).fork(n).normal(p.shape, by)))

export const tune = (adapter: Adapter<any>, at: string | readonly string[], base: typeof network = network): Tuned =>
  attach(base, [{ adapter, at }], rng(2))

export const values = async (t: Tensor): Promise<number[]> => Array.from(await t.data())
export const expectNear = (found: ArrayLike<number>, want: readonly number[], tolerance = 1e-5): void => {
  expect(distance(found, want)).toBeLessThan(tolerance)
}
export const gap = async (a: Tensor, b: Tensor): Promise<number> => distance(await a.data(), await b.data())

/** what is trained of an adapter, without what all its sites share */
export const countOwn = ({ params, bound }: Tuned): number =>
  countParams(
    Object.fromEntries(Object.entries(params).filter(([n]) => bound.some((b) => n.startsWith(`${b.prefix}.`)))),
  )

export const site = (over: Partial<Site> = {}): Site => ({
  ...{ name: 'blocks.0.mlp', kind: 'mlp', layer: 0, in: 4, out: 4 },
  ...over,
})
/** a context outside of any model */
export const context = (over: Partial<RunContext> = {}): RunContext => ({
  ...{ site: site(), training: false, inputs: {}, inner: [], shared: {}, scratch: new Map() },
  penalty: () => {},
  ...over,
})

/** the likeliest tokens one by one, each from a pass over the whole text */
export const slowly = async (tuned: Tuned, params: Params, prompt: readonly number[], n: number): Promise<number[]> => {
  const text = [...prompt]
  for (let i = 0; i < n; i++) {
    const last = tidy(() => tuned.forward(params, { ids: tensor(text, [1, text.length], 'int32') }).logits)
    const scores = (await values(last)).slice(-24)
    text.push(scores.indexOf(Math.max(...scores)))
  }
  return text.slice(prompt.length)
}

/** texts of one batch, some of which end before others, are what each would be alone and without a cache */
export const expectSameText = async (tuned: Tuned, params: Params): Promise<void> => {
  const prompts = [
    [3, 1, 4, 1, 5],
    [2, 7],
    [9, 9, 8, 2],
  ]
  const n = 6
  const all = await complete(tuned, prompts, { params, maxTokens: n, ends: [] })
  const alone = await Promise.all(prompts.map((p) => slowly(tuned, params, p, n)))
  expect(all.map((c) => c.ids)).toEqual(alone)
  // the first to end leaves the batch, and the others go on
  const end = alone[1]![1]!
  const cut = (text: number[]): number[] => (text.includes(end) ? text.slice(0, text.indexOf(end) + 1) : text)
  const some = await complete(tuned, prompts, { params, maxTokens: n, ends: [end] })
  expect(some.map((c) => c.ids)).toEqual(alone.map(cut))
}
