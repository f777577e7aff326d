import { attach } from '@weftjs/model'
import { add, backprop, mapParams, mul, rng, sum, tensor, tensor1d } from '@weftjs/tensor'
import { describe, expect, it } from 'vitest'
import { lora } from '../src/lora.ts'
import { type PolyOptions, poly } from '../src/poly.ts'
import { distance } from './fixture.ts'
import { network } from './one.ts'

const at = 'blocks.*.{attn,mlp}.{q,v,down}'
const rows = [
  [1, 2, 3, 4],
  [5, 6, 7, 8],
  [9, 10, 11, 12],
]
const ids = tensor(rows, [3, 4], 'int32')
const tune = (options: PolyOptions) => {
  const tuned = attach(network, [{ adapter: poly(options), at }], rng(1))
  return { tuned, params: mapParams(tuned.params, (p, n) => add(p, rng(4).fork(n).normal(p.shape, 0.3))) }
}

describe('poly', () => {
  it('rows of several tasks are each what its task alone would be, and each task folds to a LoRA of its own', async () => {
    const options = { rank: 2, alpha: 3, tasks: 3, skills: 4, heads: 4 }
    const { tuned, params } = tune(options)
    const tasks = [2, 0, 1]
    const all = tuned.forward(params, { ids, task: tensor1d(tasks, 'int32') }).logits.dataSync()
    const V = all.length / 3
    for (const [row, task] of tasks.entries()) {
      const own = { ids: tensor([rows[row]!], [1, 4], 'int32') }
      const want = all.slice(row * V, (row + 1) * V)
      const alone = attach(network, [{ adapter: poly({ ...options, task }), at }], rng(1))
      const folded = attach(alone.fold(params), [], rng(0))
      expect(distance(alone.forward(params, own).logits.dataSync(), want)).toBeLessThan(2e-5)
      expect(distance(folded.forward({}, own).logits.dataSync(), want)).toBeLessThan(2e-5)
    }
  })

  it('of one skill and one head is LoRA', async () => {
    const { tuned, params } = tune({ rank: 2, alpha: 5, skills: 1 })
    const plain = attach(network, [{ adapter: lora({ rank: 2, alpha: 5 }), at }], rng(1))
    const turned = mapParams(plain.params, (p, n) => {
      const t = params[n.replace('.lora.', '.poly.')]!
      const [, , rowsOf, columns] = t.shape as [number, number, number, number]
      const v = t.dataSync()
      return tensor(
        Array.from({ length: p.size }, (_, i) => v[(i % rowsOf) * columns + Math.floor(i / rowsOf)]!),
        p.shape,
      )
    })
    const [a, b] = [tuned.forward(params, { ids }), plain.forward(turned, { ids })]
    expect(distance(a.logits.dataSync(), b.logits.dataSync())).toBeLessThan(2e-5)
  })

  it('gates that are equal within a head average the skills, as "average" does', () => {
    const { tuned, params } = tune({ rank: 2, skills: 3, heads: 2 })
    const average = attach(
      network,
      [{ adapter: poly({ rank: 2, skills: 3, heads: 2, trains: 'average' }), at }],
      rng(1),
    )
    const even = mapParams(params, (p, n) => (n.endsWith('.z') ? mul(p, 0) : p))
    const given = Object.fromEntries(Object.keys(average.params).map((n) => [n, even[n]!]))
    expect(Object.keys(given).some((n) => n.endsWith('.z'))).toBe(false)
    const [a, b] = [tuned.forward(even, { ids }), average.forward(given, { ids })]
    expect(distance(a.logits.dataSync(), b.logits.dataSync())).toBeLessThan(2e-5)
  })

  it('routing trains h·m numbers of a task, and its gradient stays within the tasks of the batch', () => {
    const options: PolyOptions = { rank: 2, tasks: 2, skills: 3, heads: 2, trains: 'routing', relaxed: false }
    const tuned = attach(network, [{ adapter: poly(options), at: 'blocks.0.attn.q' }], rng(1))
    const name = 'blocks.0.attn.q.poly'
    expect(Object.keys(tuned.params)).toEqual([`${name}.z`])
    expect(tuned.params[`${name}.z`]!.shape).toEqual([2, 6])
    const whole = attach(network, [{ adapter: poly({ ...options, trains: 'all' }), at: 'blocks.0.attn.q' }], rng(1))
    const params = mapParams(whole.params, (p, n) => add(p, rng(4).fork(n).normal(p.shape, 0.3)))
    const task = tensor1d([1, 1, 1], 'int32')
    const { grads } = backprop((p) => sum(mul(whole.forward(p, { ids, task }).logits, 0.1)) as never, params)
    const z = grads[`${name}.z`]!.arraySync() as number[][]
    expect(z[0]).toEqual(Array(6).fill(0))
    expect(z[1]!.some((v) => v !== 0)).toBe(true)
  })

  it('says what is wrong with tasks and shapes', () => {
    const { tuned, params } = tune({ rank: 2, tasks: 2 })
    const run = (task?: ReturnType<typeof tensor1d>) => () => tuned.forward(params, { ids, ...(task && { task }) })
    expect(run()).toThrow('blocks.0.attn.q: poly mixes for 2 tasks, and the inputs name none')
    expect(run(tensor1d([0, 1, 2], 'int32'))).toThrow('blocks.0.attn.q: there are 2 tasks, and inputs.task names 2')
    expect(run(tensor1d([0, 1], 'int32'))).toThrow('inputs.task names 2 rows, and the batch has 3')
    expect(run(tensor1d([0, 1, 1]))).toThrow('must be [B] of int32')
    expect(() => tuned.fold(params)).toThrow('the inputs name none')
    expect(() => poly({ tasks: 2, task: 2 })).toThrow('poly: task must be a whole number below tasks (2)')
    expect(() => attach(network, [{ adapter: poly({ heads: 5 }), at: 'blocks.0.mlp.up' }], rng(1))).toThrow(
      'blocks.0.mlp.up: 5 heads do not divide 24 and 16',
    )
  })
})
