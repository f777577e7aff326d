import type { Estimator, Params, Scalar } from '@weftjs/spec'
import {
  backprop,
  clone,
  crossEntropy,
  fill,
  gatherRows,
  linear,
  mapParams,
  memory,
  peakBytes,
  rng,
  silu,
  square,
  sum,
  tensor1d,
  wasm,
} from '@weftjs/tensor'
import { beforeAll, expect, it } from 'vitest'
import { adamw, chain, clipByGlobalNorm, type Step, sgd, train } from '../src/index.ts'

beforeAll(async () => void (await wasm()))

const [V, D, N] = [60, 16, 12]
type Batch = readonly number[]
/** tokens from tokens: a tied embedding and one layer */
const start = (): Params => ({ embed: rng(1).normal([V, D], 0.3), w: rng(2).normal([D, D], 0.3) })
const loss = ({ embed, w }: Params, ids: Batch): Scalar => {
  const hidden = silu(linear(gatherRows(embed!, tensor1d(ids as number[], 'int32')), w!))
  const next = tensor1d([...ids.slice(1), ids[0]!], 'int32')
  return crossEntropy(hidden, embed!, next, fill([N], 1 / N)) as Scalar
}
const data = (n: number): Batch[] =>
  Array.from({ length: n }, (_, i) => Array.from(rng(i % 5).numbers(N), (u) => Math.floor(u * V)))
const transform = () => chain(clipByGlobalNorm(1), adamw({ lr: 0.01 }))
const numbers = (params: Params): number[][] => Object.values(params).map((t) => Array.from(t.dataSync()))
const bytes = (params: Params): number => Object.values(params).reduce((n, t) => n + 4 * t.size, 0)

it('1,000 steps leave as many tensors and bytes as one', async () => {
  const seen = new Set<string>()
  const peak = peakBytes()
  let [first, last] = [0, 0]
  for await (const s of train({ params: start(), data: data(1000), loss, transform: transform() })) {
    if (s.step > 1) seen.add(`${s.tensors} tensors, ${s.bytes} bytes, ${peak.now} of data`)
    if (s.step === 1) first = s.loss
    last = s.loss
  }
  expect([...seen]).toHaveLength(1)
  expect(last).toBeLessThan(first / 4)
})

it.each([true, false])('where it consumes (%s), it changes what it was given, and else leaves it', async (consume) => {
  const given = start()
  const before = numbers(given)
  const { numTensors } = memory()
  const kept: Params[] = []
  const seen: number[][][] = []
  let end: Params = {}
  for await (const { params } of train({ params: given, data: data(3), loss, transform: transform(), consume })) {
    seen.push(numbers(params))
    kept.push(mapParams(params, (t) => clone(t)))
    end = params
  }
  expect(kept.map(numbers)).toEqual(seen) // clones keep the values of their step
  expect(seen[0]).not.toEqual(seen[1])
  if (!consume) expect(numbers(given)).toEqual(before)
  for (const t of kept.flatMap((p) => Object.values(p))) t.dispose()
  expect(memory().numTensors).toBe(numTensors + (consume ? 0 : 2))
  expect(numbers(end)).toEqual(seen[2])
})

it('without clones the tensors stay the same ones from step to step', async () => {
  const given = start()
  const all: Params[] = []
  for await (const { params } of train({ params: given, data: data(3), loss, transform: transform(), consume: true }))
    all.push(params)
  for (const params of all) for (const n of ['embed', 'w']) expect(params[n]).toBe(given[n])
})

it('needs no more than parameters, two moments and one gradient, and one more to accumulate', async () => {
  const peak = peakBytes()
  const most = async (accumulate: number): Promise<number> => {
    const given = start()
    peak.reset()
    const base = peak.now - bytes(given)
    for await (const { step } of train({
      params: given,
      data: data(3 * accumulate),
      loss,
      transform: transform(),
      accumulate,
      consume: true,
    }))
      if (step === 1) peak.reset()
    const found = peak.bytes - base
    for (const t of Object.values(given)) t.dispose()
    return found
  }
  const size = bytes(start())
  const activations = 4 * N * (V + 12 * D)
  expect(await most(1)).toBeLessThan(4 * size + activations)
  expect(await most(4)).toBeLessThan(5 * size + activations)
})

it.each(['adamw', 'sgd', 'nesterov'])('the same run as on composed ops: %s', async (name) => {
  const { kernels } = await import('@weftjs/tensor')
  const of = {
    adamw: transform,
    sgd: () => sgd({ lr: 0.3, momentum: 0.9 }),
    nesterov: () => sgd({ lr: 0.3, momentum: 0.9, nesterov: true, weightDecay: 0.01 }),
  }[name]!
  const run = async (accumulate: number): Promise<number[]> => {
    const found: number[] = []
    for await (const s of train({ params: start(), data: data(12), loss, transform: of(), accumulate }))
      found.push(s.loss)
    return found
  }
  for (const accumulate of [1, 3]) {
    const fast = await run(accumulate)
    kernels.plain = true
    try {
      const plain = await run(accumulate)
      fast.forEach((v, i) => {
        expect(Math.abs(v - plain[i]!), `step ${i}`).toBeLessThan(1e-4)
      })
    } finally {
      kernels.plain = false
    }
  }
})

it('an estimator of its own reports its own loss', async () => {
  const twice: Estimator = (f, params) => {
    const { grads } = backprop(f, params)
    return { loss: sum(square(f(params))) as Scalar, grads }
  }
  const steps: Step<Batch>[] = []
  for await (const s of train({ params: start(), data: data(2), loss, transform: transform(), estimate: twice }))
    steps.push(s)
  const plain: Step<Batch>[] = []
  for await (const s of train({ params: start(), data: data(2), loss, transform: transform() })) plain.push(s)
  steps.forEach((s, i) => {
    expect(s.loss).toBeCloseTo(plain[i]!.loss ** 2, 4)
  })
  expect(new Set(steps.map((s) => s.tensors)).size).toBe(1)
})
