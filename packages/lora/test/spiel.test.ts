import { attach, inputsOf, nextToken, revising, type Tuned } from '@weftjs/model'
import { adamw, type Step, train } from '@weftjs/optim'
import type { Batch, Params, Scalar, Tensor } from '@weftjs/spec'
import { backprop, cpu, dispose, peakBytes, rng, tensor1d } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { flatOf, placesOf } from '../src/shared/sparse.ts'
import { type SpielOptions, spiel } from '../src/spiel.ts'
import { batchAt } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const at = ['blocks.0.mlp.up', 'blocks.1.attn.o']
const batch = (i: number): Batch => batchAt(i, 5)
const STEPS = 30
const push = <T>(into: Record<string, T[]>, name: string, x: T): void => {
  into[name] = [...(into[name] ?? []), x]
}
/** places, values and moments of each site after each step */
const run = async (
  options: SpielOptions,
  { steps = STEPS, recompute = false, lr = 0.01 } = {},
): Promise<{
  tuned: Tuned
  places: Record<string, Float64Array[]>
  values: Record<string, Float32Array[]>
  m: Record<string, Float32Array[]>
  losses: number[]
  tensors: number[]
}> => {
  const tuned = attach(network, [{ adapter: spiel(options), at }], rng(1))
  const live = revising(tuned, { steps })
  const [places, values, m]: [
    Record<string, Float64Array[]>,
    Record<string, Float32Array[]>,
    Record<string, Float32Array[]>,
  ] = [{}, {}, {}]
  const losses: number[] = []
  const tensors: number[] = []
  const loop = train<Batch>({
    params: tuned.params,
    data: Array.from({ length: steps }, (_, i) => batch(i % 3)),
    loss: (p, b) => nextToken(live.run(p, inputsOf(b), { training: true, recompute }), b) as Scalar,
    transform: adamw({ lr, weightDecay: 0 }),
    revise: (p, g, step) => live.revise(p, g, step),
  })
  for await (const s of loop as AsyncIterable<Step<Batch>>) {
    losses.push(s.loss)
    tensors.push(s.tensors)
    const [{ m: moments }] = s.state as [{ m: Params }]
    const all: Params = { ...live.tuned.constants, ...s.params }
    for (const { site, prefix } of tuned.bound) {
      push(places, site.name, flatOf(all[`${prefix}.places`]!, site.in))
      push(values, site.name, s.params[`${prefix}.values`]!.dataSync().slice() as Float32Array)
      push(m, site.name, moments[`${prefix}.values`]!.dataSync().slice() as Float32Array)
    }
  }
  return { tuned, places, values, m, losses, tensors }
}
const changes = (all: readonly Float64Array[]): number[] =>
  all.flatMap((p, i) => (i && p.join() !== all[i - 1]!.join() ? [i + 1] : []))

describe.each(['ag', 'ma'] as const)('spiel by %s', (growth) => {
  it('chooses after the windows, keeps its budget, and no place twice', async () => {
    const { places, values, losses, tensors } = await run({ density: 0.1, growth, every: 10, window: 3, drop: 0.4 })
    for (const name of at) {
      expect(changes(places[name]!)).toEqual([3, 13, 23])
      const k = places[name]![0]!.length
      for (const p of places[name]!) {
        expect(new Set(p).size).toBe(k)
        expect([...p]).toEqual([...p].sort((a, b) => a - b))
      }
      // after step 13, of p = 0.4·(1 − 13/30): ⌊p·k⌋ of k are new at most, and begin at zero
      const [before, after] = [new Set(places[name]![11]), places[name]![12]!]
      const fresh = Array.from(after).filter((f) => !before.has(f))
      expect(fresh.length).toBeLessThanOrEqual(Math.floor(0.4 * (1 - 13 / STEPS) * k))
      expect(fresh.length).toBeGreaterThan(0)
      Array.from(after).forEach((f, j) => {
        if (!before.has(f)) expect(values[name]![12]![j]! === 0).toBe(true)
        else expect(values[name]![12]![j]).not.toBe(0)
      })
      // what was dropped was the smallest: what stays is larger than it was there
      const old = Array.from(places[name]![11]!)
      expect(old.filter((f) => !new Set(after).has(f))).toHaveLength(fresh.length)
    }
    expect(losses.at(-1)!).toBeLessThan(losses[0]!)
    // the first choice makes tensors of what was constant
    expect(new Set(tensors.slice(3)).size).toBe(1)
  })

  it('without drops it is training at fixed places after the first choice', async () => {
    const { places } = await run({ density: 0.1, growth, every: 5, window: 2, drop: 0 }, { steps: 16 })
    for (const name of at) expect(changes(places[name]!)).toEqual([2])
  })
})

describe('AG', () => {
  it('grows first at the steepest places of the whole gradient', async () => {
    const { places, tuned } = await run({ density: 0.05, every: 10, window: 1 }, { steps: 1 })
    const whole = attach(network, [], rng(0), { train: at })
    const { grads } = backprop((p) => nextToken(whole.run(p, inputsOf(batch(0))), batch(0)) as Scalar, whole.params)
    for (const { site } of tuned.bound) {
      const g = Array.from(grads[site.name]!.dataSync() as Float32Array, Math.abs)
      const k = Math.ceil(0.05 * g.length)
      const least = [...g].sort((a, b) => b - a)[k - 1]!
      const want = g.flatMap((v, i) => (v >= least ? [i] : []))
      // one of the first places may be among the steepest: then it stays
      expect([...places[site.name]![0]!]).toEqual(want)
    }
  })

  it('moments of what is new are those of the gradients that it was chosen by', async () => {
    const { m, places, tuned } = await run({ density: 0.05, every: 10, window: 2 }, { steps: 2, lr: 1e-6 })
    const whole = attach(network, [], rng(0), { train: at })
    const of = (i: number): Params =>
      backprop((p) => nextToken(whole.run(p, inputsOf(batch(i))), batch(i)) as Scalar, whole.params).grads
    const [first, second] = [of(0), of(1)]
    for (const name of at) {
      const mean = Array.from(first[name]!.dataSync() as Float32Array, (g, i) => (g + second[name]!.dataSync()[i]!) / 2)
      const old = flatOf(tuned.constants[`${name}.spiel.places`]!, 16)
      Array.from(places[name]!.at(-1)!).forEach((f, j) => {
        if (old.includes(f)) return
        // corrected by 1 − β₁², Adam's first moment is the mean
        expect(m[name]!.at(-1)![j]! / (1 - 0.9 ** 2)).toBeCloseTo(mean[f]!, 4)
      })
    }
  })

  it('chooses the same where blocks are computed again', async () => {
    const options = { density: 0.1, every: 6, window: 2 }
    const [a, b] = [await run(options, { steps: 10 }), await run(options, { steps: 10, recompute: true })]
    for (const name of at) expect(b.places[name]!.map(String)).toEqual(a.places[name]!.map(String))
  })

  it('holds no whole gradient beyond its layer', () => {
    // a chain of eight wide matrices: with one gradient of each held, the peak would be eight times as high
    const wide = tinyLlama(rng(0), { layers: 4, width: 64, heads: 4, kvHeads: 4, hidden: 256, vocabulary: 8 })
    const tuned = attach(wide, [{ adapter: spiel({ density: 0.001 }), at: 'blocks.*.mlp.{up,down}' }], rng(1))
    const b = { ...batch(0), ids: batch(0).ids.map((i) => i % 8), targets: batch(0).targets.map((i) => i % 8) }
    const loss = (p: Params): Scalar => nextToken(tuned.run(p, inputsOf(b), { training: true }), b) as Scalar
    const first = backprop(loss, tuned.params)
    dispose([first.loss, ...Object.values(first.grads)])
    const start = peakBytes().now
    peakBytes().reset()
    const { loss: l, grads } = backprop(loss, tuned.params)
    const peak = peakBytes().bytes
    dispose([l, ...Object.values(grads)])
    expect(peak - start).toBeGreaterThan(64 * 256 * 4)
    expect(peak - start).toBeLessThan(8 * 64 * 256 * 4)
  })
})

describe('MA', () => {
  it('keeps the largest second moments of rows and columns, by hand', () => {
    const adapter = spiel({ growth: 'ma', every: 100, window: 50 })
    const site = attach(network, [{ adapter, at: at[0]! }], rng(0)).bound[0]!.site
    const zeros = (n: number): Tensor => tensor1d(new Float32Array(n))
    // numbers at (0, 1), (0, 2), (3, 2)
    const state = { values: zeros(3), places: placesOf([1, 2, 3 * 16 + 2], 16), rows: zeros(24), columns: zeros(16) }
    const step = (s: Params, g: number[]): Params =>
      adapter.revise!(
        { up: { site, state: s as never, grads: { values: tensor1d(g) as never } } },
        { step: 1, steps: 9, rng: rng(0) },
      )['up']!.state as Params
    const once = step(state, [1, 2, 3])
    const numbers = (t: Tensor): number[] => [...t.dataSync()]
    expect(numbers(once['rows']!).slice(0, 4)).toEqual([4, 0, 0, 9])
    expect(numbers(once['columns']!).slice(0, 3)).toEqual([0, 1, 9])
    // ν = min(4, 1) + 1, min(4, 9) + 0, min(9, 9) + 1
    const twice = step({ ...state, ...once }, [1, 0, 1])
    expect(numbers(twice['rows']!).slice(0, 4)).toEqual([4, 0, 0, 10])
    expect(numbers(twice['columns']!).slice(0, 3)).toEqual([0, 2, 10])
  })
})

it('says what cannot be', () => {
  expect(() => spiel({ density: 0 })).toThrow('spiel: density must be in (0, 1], found 0')
  expect(() => spiel({ window: 20 })).toThrow('a window of 20 steps must be shorter than the 20')
  expect(() => spiel({ drop: 2 })).toThrow('spiel: drop must be in [0, 1], found 2')
  expect(() => spiel({ growth: 'rigl' as never })).toThrow("growth must be 'ag' or 'ma', found 'rigl'")
})
