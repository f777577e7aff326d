import type { Params, Rng, Scalar } from '@weftjs/spec'
import {
  add,
  clone,
  cpu,
  keep,
  mapParams,
  matMul,
  memory,
  mul,
  rng,
  square,
  sub,
  sum,
  tensor,
  tidy,
} from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import {
  adamw,
  chain,
  clipByGlobalNorm,
  cosine,
  packState,
  partition,
  type Step,
  sgd,
  train,
  unpackState,
} from '../src/index.ts'

await cpu()

/** x [n, 3] → y [n, 2] by a matrix to be found */
interface Batch {
  readonly x: number[][]
  readonly y: number[][]
}
const truth = [
  [1, -2],
  [0.5, 0.25],
  [-1, 3],
]
const data = (n: number, rows = 4): Batch[] =>
  Array.from({ length: n }, (_, i) => {
    const x = Array.from({ length: rows }, (_, r) =>
      Array.from(
        rng(50 + i)
          .fork(r)
          .numbers(3),
        (u) => 2 * u - 1,
      ),
    )
    return { x, y: x.map((row) => [0, 1].map((c) => row.reduce((s, v, k) => s + v * truth[k]![c]!, 0))) }
  })
const start = (): Params => ({ w: rng(1).normal([3, 2]), c: rng(2).normal([2]) })
const loss = ({ w, c }: Params, { x, y }: Batch): Scalar =>
  mul(sum(square(sub(add(matMul(tensor(x), w!), c!), tensor(y)))), 1 / x.length) as Scalar
const noisy = (params: Params, batch: Batch, { rng }: { rng: Rng }): Scalar =>
  add(loss(params, batch), sum(mul(params['w']!, rng.normal([3, 2], 0.1)))) as Scalar
const transform = chain(clipByGlobalNorm(1), adamw({ lr: cosine(0.1, { steps: 40, warmup: 2 }) }))

/** copies of what a step leaves, for the tensors are the trainer's */
const numbers = async (params: Params): Promise<Record<string, number[]>> =>
  Object.fromEntries(
    await Promise.all(Object.entries(params).map(async ([n, t]) => [n, Array.from(await t.data())] as const)),
  )

describe('train', () => {
  it('learns, keeps the count of tensors flat, and leaves nothing behind but what it was given', async () => {
    const params = start()
    const before = memory().numTensors
    const steps: Step<Batch>[] = []
    for await (const step of train({ params, data: data(30), loss, transform })) steps.push(step)
    expect(steps).toHaveLength(30)
    expect(steps.map((s) => s.step)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1))
    expect(steps.at(-1)!.loss).toBeLessThan(steps[0]!.loss / 2)
    expect(new Set(steps.map((s) => s.tensors)).size).toBe(1)
    expect(new Set(steps.map((s) => s.bytes)).size).toBe(1)
    expect(memory().numTensors).toBe(before + 2) // the last params are the consumer's
    expect(params['w']!.isDisposed).toBe(false)
    expect(await numbers(params)).toEqual(await numbers(start()))
    for (const t of Object.values(steps.at(-1)!.params)) expect(t.isDisposed).toBe(false)
    for (const t of Object.values(steps[0]!.params)) expect(t.isDisposed).toBe(true)
  })

  it('stops when its consumer does: no further batch is read, and the source is closed', async () => {
    let [read, closed] = [0, false]
    async function* source(): AsyncGenerator<Batch> {
      try {
        for (const batch of data(10)) {
          read++
          yield batch
        }
      } finally {
        closed = true
      }
    }
    for await (const { step } of train({ params: start(), data: source(), loss, transform })) if (step === 3) break
    expect([read, closed]).toEqual([3, true])
  })

  it('stops at `steps`, and takes no batch when there is nothing left to do', async () => {
    let read = 0
    const source = function* (): Generator<Batch> {
      for (const batch of data(10)) {
        read++
        yield batch
      }
    }
    const found: number[] = []
    for await (const { step } of train({ params: start(), data: source(), loss, transform, steps: 4 })) found.push(step)
    expect([found, read]).toEqual([[1, 2, 3, 4], 4])
    for await (const { step } of train({ params: start(), data: source(), loss, transform, steps: 4, step: 4 }))
      found.push(step)
    expect([found.length, read]).toEqual([4, 4])
  })

  it('stops at an abort, between steps and before the first', async () => {
    const control = new AbortController()
    const found: number[] = []
    for await (const { step } of train({ params: start(), data: data(9), loss, transform, signal: control.signal })) {
      found.push(step)
      if (step === 2) control.abort()
    }
    expect(found).toEqual([1, 2])
    for await (const { step } of train({ params: start(), data: data(9), loss, transform, signal: control.signal }))
      found.push(step)
    expect(found).toEqual([1, 2])
  })

  it.each(['a copy', 'a packed state'])('resumed from %s it is the same run, noise and schedule too', async (how) => {
    const all = data(12)
    const whole: number[] = []
    let end: Record<string, number[]> = {}
    for await (const s of train({ params: start(), data: all, loss: noisy, transform, seed: 7 })) {
      whole.push(s.loss)
      if (s.step === 12) end = await numbers(s.params)
    }
    let saved: { params: Params; state: unknown } | undefined
    for await (const s of train({ params: start(), data: all, loss: noisy, transform, seed: 7, steps: 5 }))
      if (s.step === 5) {
        const packed = packState({ params: s.params, state: s.state })
        const tensors = tidy(() => mapParams(packed.tensors, (t) => keep(clone(t))))
        // through the numbers, as a file would
        const read = mapParams(tensors, (t) => tensor(t.dataSync().slice(), t.shape, t.dtype as 'float32'))
        saved = unpackState(how === 'a copy' ? { ...packed, tensors } : { tensors: read, json: packed.json }) as never
      }
    const rest: number[] = []
    for await (const s of train({
      params: saved!.params,
      state: saved!.state,
      step: 5,
      data: all.slice(5),
      loss: noisy,
      transform,
      seed: 7,
    })) {
      rest.push(s.loss)
      if (s.step === 12) expect(await numbers(s.params)).toEqual(end)
    }
    expect(rest).toEqual(whole.slice(5))
    const other: number[] = []
    for await (const s of train({ params: start(), data: all, loss: noisy, transform, seed: 8, steps: 2 }))
      other.push(s.loss)
    expect(other).not.toEqual(whole.slice(0, 2))
  })

  it('accumulated batches give the step of one large batch, weighted by what they count for', async () => {
    const small = [...data(2, 4), ...data(1, 2)]
    const large: Batch = { x: small.flatMap((b) => b.x), y: small.flatMap((b) => b.y) }
    const run = async (batches: Batch[], accumulate: number): Promise<[number, Record<string, number[]>]> => {
      for await (const s of train({
        params: start(),
        data: batches,
        loss,
        transform: sgd({ lr: 0.1 }),
        accumulate,
        weight: (b) => b.x.length,
      }))
        return [s.loss, await numbers(s.params)]
      throw new Error('no step')
    }
    const [[a, p], [b, q]] = [await run(small, 3), await run([large], 1)]
    expect(a).toBeCloseTo(b, 5)
    for (const n of ['w', 'c']) for (const [i, v] of p[n]!.entries()) expect(v).toBeCloseTo(q[n]![i]!, 5)
  })

  it('accumulates without piling up tensors', async () => {
    const seen = new Set<number>()
    for await (const s of train({ params: start(), data: data(12), loss, transform, accumulate: 3 }))
      seen.add(s.tensors)
    expect(seen.size).toBe(1)
  })

  it('an error in the loss reaches the consumer and leaves no tensor', async () => {
    const params = start()
    const before = memory().numTensors
    const run = async (): Promise<void> => {
      for await (const { step } of train({
        params,
        data: data(5),
        transform,
        loss: (p, b, { step }) => {
          if (step === 2) throw new Error('out of memory')
          return loss(p, b)
        },
      }))
        void step
    }
    await expect(run()).rejects.toThrow('out of memory')
    // the params of the last step done are the consumer's
    expect(memory().numTensors - before).toBeLessThanOrEqual(2)
  })
})

describe('partition', () => {
  it('gives each group its own optimizer, and leaves a group that is not listed as it is', async () => {
    const params = { ...start(), fixed: tensor([1, 2]) }
    const grads = mapParams(params, (p) => mul(p, 1))
    const tx = partition({ fast: sgd({ lr: 1 }), slow: sgd({ lr: 0.1 }) }, (n) =>
      n === 'w' ? 'fast' : n === 'c' ? 'slow' : 'none',
    )
    const [updates] = tx.update(grads, tx.init(params), params)
    expect(Object.keys(updates).sort()).toEqual(['c', 'w'])
    const [w, c] = [await numbers(params), await numbers(updates)]
    expect(c['w']).toEqual(w['w']!.map((v) => -v))
    for (const [i, v] of c['c']!.entries()) expect(v).toBeCloseTo(-0.1 * w['c']![i]!, 6)
  })
})
