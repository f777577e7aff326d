import type { Params, Scalar, Tensor, Transform } from '@weftjs/spec'
import {
  add,
  clone,
  cpu,
  mapParams,
  matMul,
  memory,
  mul,
  reshape,
  slice,
  square,
  sum,
  tensor,
  zerosLike,
} from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { adamw, chain, clipByGlobalNorm, partition, type Step, scaleByLearningRate, sgd, train } from '../src/index.ts'

await cpu()

const start = (): Params => ({
  'one.w': tensor([
    [1, 2],
    [3, 4],
    [5, 6],
  ]),
  'two.w': tensor([1, -1]),
})
/** the gradient is the parameter itself */
const loss = (params: Params): Scalar =>
  Object.values(params)
    .map((p) => mul(sum(square(p)), 0.5))
    .reduce((a, b) => add(a, b)) as Scalar
const batches = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
const adam = (): Transform<any> => chain(clipByGlobalNorm(1e9), adamw({ lr: 0.1, weightDecay: 0 }))
const cut = (t: Tensor): Tensor => slice(t, [0, 0], [2, 2])
const last = async <B>(steps: AsyncIterable<Step<B>>): Promise<Step<B>> => {
  let found: Step<B> | undefined
  for await (const s of steps) found = s
  return found!
}
const momentsOf = (s: Step, at: number): Record<'m' | 'v', Params> =>
  (s.state as Record<'m' | 'v', Params>[][])[1]![at] as never

describe('revise', () => {
  it('sees the gradients that the optimizer consumed, and counts the step that is done', async () => {
    const seen: [number, number[]][] = []
    const run = train({
      params: start(),
      data: batches(2),
      loss,
      transform: adam(),
      revise: (params, grads, step) => {
        seen.push([step, [...grads['two.w']!.dataSync()]])
        return { params }
      },
    })
    const end = await last(run)
    expect(seen.map(([s]) => s)).toEqual([1, 2])
    expect(seen[0]![1]).toEqual([1, -1])
    // Adam's first step is lr·sign(g)
    for (const [i, v] of [0.9, -0.9].entries()) expect(seen[1]![1][i]).toBeCloseTo(v, 5)
    expect(end.params['two.w']!.shape).toEqual([2])
  })

  it('without a change it is the same run, bit by bit, and the count of tensors stays flat', async () => {
    const params = start()
    const before = memory().numTensors
    const counts = new Set<number>()
    let end: Step<number> | undefined
    for await (const s of train({
      params,
      data: batches(6),
      loss,
      transform: adam(),
      revise: (p) => ({ params: p }),
    })) {
      counts.add(s.tensors)
      end = s
    }
    expect(counts.size).toBe(1)
    expect(memory().numTensors).toBe(before + 2)
    const plain = await last(train({ params, data: batches(6), loss, transform: adam() }))
    for (const n of Object.keys(params)) expect(await end!.params[n]!.data()).toEqual(await plain.params[n]!.data())
  })

  it('moments of a tensor whose shape changed begin at zero, and those of the others stay', async () => {
    const run = (revised: boolean): AsyncIterable<Step<number>> =>
      train({
        params: start(),
        data: batches(3),
        loss,
        transform: adam(),
        revise: (params, _, step) => ({
          params: revised && step === 3 ? { ...params, 'one.w': cut(params['one.w']!) } : params,
        }),
      })
    const values = async (s: Step<number>): Promise<number[][]> => {
      const { m, v } = momentsOf(s, 0)
      return [[...(await m['one.w']!.data())], [...(await v['two.w']!.data())]]
    }
    let plain: number[][] = []
    for await (const s of run(false)) if (s.step === 3) plain = await values(s)
    for await (const s of run(true))
      if (s.step === 3) {
        const [m, v] = await values(s)
        expect(m).toEqual([0, 0, 0, 0])
        expect(v).toEqual(plain[1])
        expect(s.params['one.w']!.shape).toEqual([2, 2])
      }
  })

  it('moments move along where the revision says how, by name and under the optimizer’s own name', async () => {
    const named: string[] = []
    for await (const s of train({
      params: start(),
      data: batches(4),
      loss,
      transform: adam(),
      revise: (params, _, step) =>
        step === 2
          ? {
              params: { ...params, 'one.w': cut(params['one.w']!) },
              moments: {
                'one.w': (t, name) => {
                  named.push(name)
                  return cut(t)
                },
              },
            }
          : { params },
    })) {
      const { m, v } = momentsOf(s, 0)
      for (const t of [m, v]) expect(t['one.w']!.shape).toEqual(s.step < 2 ? [3, 2] : [2, 2])
      // gradients were 1, 2, 3, 4 and a tenth less: m = 0.9·0.1·g + 0.1·(g − 0.1)
      if (s.step === 2) expect((await m['one.w']!.data())[3]).toBeCloseTo(0.09 * 4 + 0.1 * 3.9, 5)
    }
    expect(named).toEqual(['m', 'v'])
  })

  it('goes into any state: groups, momentum that has not begun, and layouts that are not the tensor’s', async () => {
    const factored: Transform<any> = {
      init: (params) => ({ f: mapParams(params, (p) => ({ rows: sum(mul(p, 0), -1), seen: 0 })) }),
      update: (grads, { f }) => [
        mapParams(grads, (g) => mul(g, 0.1)),
        { f: mapParams(f, (s: any, n) => ({ rows: add(s.rows, sum(square(grads[n]!), -1)), seen: s.seen + 1 })) },
      ],
    }
    const groups = partition({ a: sgd({ lr: 0.1, momentum: 0.9 }), b: chain(factored, scaleByLearningRate(1)) }, (n) =>
      n === 'two.w' ? 'a' : 'b',
    )
    const counts: number[] = []
    for await (const s of train({
      params: start(),
      data: batches(5),
      loss,
      transform: groups,
      revise: (params, _, step) =>
        step === 2
          ? {
              params: { 'one.w': cut(params['one.w']!), 'two.w': slice(params['two.w']!, 0, 1) },
              moments: { 'one.w': clone },
            }
          : { params },
    })) {
      const { a, b } = s.state as any
      counts.push(s.tensors)
      expect(a[1].b['two.w'].shape).toEqual(s.step < 2 ? [2] : [1])
      expect(b[0].f['one.w'].rows.shape).toEqual(s.step < 2 ? [3] : [2])
      if (s.step === 2) {
        expect([...a[1].b['two.w'].dataSync()]).toEqual([0])
        expect(b[0].f['one.w'].seen).toBe(0)
      }
    }
    expect(new Set(counts).size).toBe(1)
  })

  it('an error of the revision reaches the consumer', async () => {
    const run = train({
      params: start(),
      data: batches(2),
      loss,
      transform: adam(),
      revise: () => {
        throw new Error('no budget')
      },
    })
    await expect(last(run)).rejects.toThrow('no budget')
  })

  it('a parameter may begin again at zero without its moments', async () => {
    const end = await last(
      train({
        params: start(),
        data: batches(1),
        loss: (p) => sum(square(matMul(p['one.w']!, reshape(p['two.w']!, [2, 1])))) as Scalar,
        transform: adam(),
        revise: (params) => ({
          params: { ...params, 'two.w': zerosLike(params['two.w']!) },
          moments: { 'two.w': zerosLike },
        }),
      }),
    )
    expect([...end.params['two.w']!.dataSync()]).toEqual([0, 0])
  })
})
