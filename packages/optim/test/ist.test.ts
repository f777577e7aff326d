import type { Estimator, Params, Scalar } from '@weftjs/spec'
import { add, backprop, cpu, mul, rng, scalar, square, sub, sum, tensor } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { adamw, apart, ist, type Step, train } from '../src/index.ts'

await cpu()
const L = 4
/** an adapter's pair per layer: layer i adds wᵢ·a·b to a sum that should be 3 */
const params = (): Params =>
  Object.fromEntries(
    Array.from({ length: L }, (_, i) => [
      [`blocks.${i}.attn.q.lora.a`, tensor([1])],
      [`blocks.${i}.attn.q.lora.b`, tensor([0.5])],
    ]).flat() as [string, Params[string]][],
  )
const lossWith =
  (weights: readonly number[]) =>
  (p: Params): Scalar => {
    const parts = weights.map((w, i) => mul(mul(p[`blocks.${i}.attn.q.lora.a`]!, p[`blocks.${i}.attn.q.lora.b`]!), w))
    const y = parts.reduce((a, b) => add(a, b))
    return sum(square(sub(y, 3))) as Scalar
  }
const equal = lossWith([1, 1, 1, 1])
const last = async <B>(steps: AsyncIterable<Step<B>>, visit: (s: Step<B>) => void = () => {}): Promise<Step<B>> => {
  let found: Step<B> | undefined
  for await (const s of steps) {
    visit(s)
    found = s
  }
  return found!
}
const values = (p: Params): Record<string, number> =>
  Object.fromEntries(Object.entries(p).map(([n, t]) => [n, t.dataSync()[0]!]))
const layersIn = (names: readonly string[]): number[] => [...new Set(names.map((n) => Number(n.split('.')[1])))]
const seen = (): { inner: Estimator; drawn: number[][] } => {
  const drawn: number[][] = []
  return {
    drawn,
    inner: (loss, p) => {
      drawn.push(layersIn(Object.keys(p)))
      return backprop(loss, p)
    },
  }
}

describe('ist', () => {
  it('changes the drawn layers only, in every step', async () => {
    const { inner, drawn } = seen()
    let before = values(params())
    const run = train({
      params: params(),
      data: Array(12).fill(0),
      loss: equal,
      transform: apart(adamw({ lr: 0.01 })),
      estimate: ist({ rng: rng(1), update: 0.5, every: 5 })(inner),
    })
    await last(run, (s) => {
      const after = values(s.params)
      const moved = layersIn(Object.keys(after).filter((n) => after[n] !== before[n]))
      expect(moved).toEqual(drawn.at(-1))
      expect(moved).toHaveLength(2)
      before = after
    })
    expect(new Set(drawn.map(String)).size).toBeGreaterThan(1)
  })

  it('with all layers and no scores it is plain training, bit for bit', async () => {
    const run = (estimate: Estimator): Promise<Step<number>> =>
      last(train({ params: params(), data: [0, 0, 0], loss: equal, transform: adamw({ lr: 0.01 }), estimate }))
    const [a, b] = [await run(backprop), await run(ist({ rng: rng(0), update: 1, mu: 0 })(backprop))]
    expect(values(b.params)).toEqual(values(a.params))
  })

  it('scores as its equation says: Δ Iᵢ = μ·(r − r̄)·p·(1 − p) in each subset', () => {
    const calls: Record<string, number>[] = []
    let during = false
    const loss = (p: Params): Scalar => {
      if (!during) calls.push(values(p))
      return equal(p)
    }
    const estimate = ist({ rng: rng(3), update: 0.25, suppress: 0.5, every: 1, draws: 2, mu: 8, beta: 0.25 })(
      (f, p) => {
        during = true
        const found = backprop(f, p)
        during = false
        return found
      },
    )
    estimate(loss, params())
    expect(calls).toHaveLength(0) // not at step 0
    expect([...estimate.importance].map(Math.abs)).toEqual([0, 0, 0, 0])
    estimate(loss, params())
    expect(calls).toHaveLength(2)
    const subsets = calls.map((c) => [0, 1, 2, 3].filter((i) => c[`blocks.${i}.attn.q.lora.b`] === 0.125))
    for (const s of subsets) expect(s).toHaveLength(2)
    for (const c of calls) expect(c['blocks.0.attn.q.lora.a']).toBe(1)
    // all layers alike: equal rewards, and nothing moves
    for (const i of estimate.importance) expect(Math.abs(i)).toBeLessThan(1e-6)
  })

  it('layers that do nothing are told from those that matter', () => {
    // layers 0 and 1 carry the sum, 2 and 3 are useless
    const loss = lossWith([3, 3, 0, 0])
    const estimate = ist({ rng: rng(5), update: 0.25, suppress: 0.25, every: 1, draws: 3 })(backprop)
    for (let i = 0; i < 40; i++) estimate(loss, params())
    const [a, b, c, d] = estimate.importance as [number, number, number, number]
    expect(Math.min(a, b)).toBeGreaterThan(Math.max(c, d))
  })

  it('goes on from its state', () => {
    const options = { update: 0.5, every: 2, draws: 2 } as const
    const loss = lossWith([3, 1, 0, 0])
    const straight = ist({ ...options, rng: rng(7) })(backprop)
    for (let i = 0; i < 6; i++) straight(loss, params())
    const first = ist({ ...options, rng: rng(7) })(backprop)
    for (let i = 0; i < 3; i++) first(loss, params())
    const state = JSON.parse(JSON.stringify(first.state))
    const second = ist({ ...options, rng: rng(7), state })(backprop)
    for (let i = 0; i < 3; i++) second(loss, params())
    expect(second.state).toEqual(straight.state)
  })

  it('says what does not fit', () => {
    const of =
      (options: object, p: Params = params()): (() => void) =>
      () =>
        void ist({ rng: rng(0), ...options })(backprop)(equal, p)
    expect(of({ update: 0.05 })).toThrow('ist: 0 of 4 layers would train')
    expect(of({ suppress: 0.25, draws: 5 })).toThrow('no 5 different sets of 1 of 4 layers')
    expect(of({ scales: () => false })).toThrow("layer 0 has no tensor that scales its adapter's output")
    expect(of({}, { 'head.lora.b': scalar(1) })).toThrow('head.lora.b belongs to no layer')
  })
})

describe('apart', () => {
  it('is the optimizer itself where every tensor has a gradient', async () => {
    const run = (transform: ReturnType<typeof adamw> | ReturnType<typeof apart>): Promise<Step<number>> =>
      last(train({ params: params(), data: [0, 0, 0], loss: equal, transform }))
    expect(values((await run(apart(adamw({ lr: 0.1 })))).params)).toEqual(
      values((await run(adamw({ lr: 0.1 }))).params),
    )
  })

  it('a tensor that waits keeps its moments and its count', () => {
    const tx = apart(adamw({ lr: 0.1, weightDecay: 0 }))
    const p = { x: tensor([1]), y: tensor([1]) }
    let state = tx.init(p)
    for (let i = 0; i < 5; i++) state = tx.update({ x: tensor([1]) }, state, p)[1]
    const [updates] = tx.update({ y: tensor([4]) }, state, p)
    // the first step of Adam is the sign of the gradient, however late it comes
    expect(updates['y']!.dataSync()[0]).toBeCloseTo(-0.1, 5)
    expect(Object.keys(updates)).toEqual(['y'])
  })
})
