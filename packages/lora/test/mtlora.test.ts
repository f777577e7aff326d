import { attach, contextOf } from '@weftjs/model'
import type { Params, Tensor } from '@weftjs/spec'
import {
  add,
  backprop,
  countParams,
  cpu,
  mapParams,
  mul,
  reshape,
  rng,
  slice,
  sum,
  tensor,
  zerosLike,
} from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'
import { dense } from '@weftjs/weight'
import { describe, expect, it } from 'vitest'
import { lora } from '../src/lora.ts'
import { type MtloraOptions, mtlora } from '../src/mtlora.ts'
import { distance } from './fixture.ts'

await cpu()
const network = tinyLlama(rng(0))
const rows = [
  [1, 2, 3, 4],
  [5, 6, 7, 8],
]
const ids = tensor(rows.flat(), [2, 4], 'int32')
const linears = 'blocks.*.{attn,mlp}.{q,k,v,o,gate,up,down}'
const at = ['blocks.*', linears]
const tune = (options: MtloraOptions, where: string | string[] = at) =>
  attach(network, [{ adapter: mtlora({ rank: 4, ...options }), at: where }], rng(1))
const moved = (params: Params): Params => mapParams(params, (p, n) => add(p, rng(3).fork(n).normal(p.shape, 0.2)))
const tasks = (...t: number[]): Tensor => tensor(t, [t.length], 'int32')
const logits = async (
  tuned: ReturnType<typeof tune>,
  params: Params,
  inputs: Params = {},
): Promise<ArrayLike<number>> => tuned.forward(params, { ids, ...inputs }).logits.data()

describe('mtlora', () => {
  it('begins as the network for every task', async () => {
    const plain = await attach(network, [], rng(0)).forward({}, { ids }).logits.data()
    for (const addShared of [false, true]) {
      const tuned = tune({ tasks: 3, addShared })
      for (const task of [0, 1, 2])
        expect(distance(await logits(tuned, tuned.params, { task: tasks(task, 2 - task) }), plain)).toBeLessThan(1e-6)
    }
  })

  it('without tasks is LoRA', async () => {
    const none = tune({ scale: 3 }, linears)
    const params = moved(none.params)
    const plain = attach(network, [{ adapter: lora({ rank: 4, alpha: 12 }), at: linears }], rng(1))
    const same = mapParams(plain.params, (_, n) => params[n.replace('.lora.', '.mtlora.')]!)
    expect(distance(await logits(none, params), await plain.forward(same, { ids }).logits.data())).toBeLessThan(1e-5)
  })

  it('with one task, the shared update added and at zero, is LoRA of the task in the last block', async () => {
    // one linear, so that there is one stream: with more, the frozen matrices read the shared one
    const one = tune({ tasks: 1, taskRank: 4, taskScale: 2, addShared: true }, ['blocks.1', 'blocks.1.mlp.down'])
    const params = mapParams(moved(one.params), (p, n) => (n.endsWith('.b') ? zerosLike(p) : p))
    const name = 'blocks.1.mlp.down'
    const plain = attach(network, [{ adapter: lora({ rank: 4, alpha: 8 }), at: name }], rng(1))
    const first = (t: Tensor): Tensor => reshape(slice(t, [0, 0, 0], [1, -1, -1]), t.shape.slice(1))
    const same = {
      [`${name}.lora.a`]: first(params[`${name}.mtlora.at`]!),
      [`${name}.lora.b`]: first(params[`${name}.mtlora.bt`]!),
    }
    expect(distance(await logits(one, params), await plain.forward(same, { ids }).logits.data())).toBeLessThan(1e-5)
  })

  it('parts the rows of a batch by task', async () => {
    const tuned = tune({ tasks: 3 })
    const params = moved(tuned.params)
    const [mixed, zero, two] = await Promise.all(
      [tasks(2, 0), tasks(0, 0), tasks(2, 2)].map((task) => logits(tuned, params, { task })),
    )
    const half = mixed!.length / 2
    const part = (a: ArrayLike<number>, n: number): number[] => Array.from(a).slice(n * half, (n + 1) * half)
    expect(distance(part(mixed!, 0), part(two!, 0))).toBeLessThan(1e-5)
    expect(distance(part(mixed!, 1), part(zero!, 1))).toBeLessThan(1e-5)
    expect(distance(part(zero!, 0), part(two!, 0))).toBeGreaterThan(0.01)
    expect(distance(await logits(tuned, params, { task: tasks(2) }), two!)).toBe(0)
    // what is task 2's does not learn from rows of others
    const { grads } = backprop(
      (p) => sum(mul(tuned.forward(p, { ids, task: tasks(0, 1) }).logits, 0.1)) as never,
      params,
    )
    const g = await grads['blocks.1.mlp.up.mtlora.at']!.data() // [3, 4, 16]
    expect([0, 1, 2].map((t) => g.slice(t * 64, t * 64 + 64).some((v) => v !== 0))).toEqual([true, true, false])
  })

  it('reads the shared stream with its frozen matrices, and the task’s with its own, by hand', async () => {
    // two linears in a row: u = W₁·x, y = W₂·u; the task adds at both
    const adapter = mtlora({ rank: 1, tasks: 1, taskRank: 1, scale: 1, taskScale: 1 })
    const site = (name: string) => ({
      name,
      kind: 'linear' as const,
      layer: 0,
      in: 1,
      out: 1,
      weight: dense(tensor([1], [1, 1]) as never),
    })
    const scratch = new Map<string, Tensor>()
    const one = (v: number): Tensor => tensor([v], [1, 1])
    const linear =
      (name: string, w: number, a: number, task: number) =>
      (x: Tensor): Tensor =>
        adapter.around!(
          (x) => mul(x, w),
          x,
          { a: one(a), b: one(1), at: tensor([task], [1, 1, 1]), bt: tensor([1], [1, 1, 1]) } as never,
          contextOf(site(name), { scratch }),
        )
    const up = linear('blocks.0.mlp.up', 2, 10, 100)
    const down = linear('blocks.0.mlp.down', 3, 20, 200)
    const block = { ...site('blocks.0'), kind: 'block' as const }
    const y = adapter.around!((x) => down(up(x)), tensor([1], [1, 1, 1]), {} as never, contextOf(block, { scratch }))
    // shared: u = 2 + 10 = 12; task: uₜ = 2 + 100 = 102; y = 3·12 + 200·102
    expect([...(await y.data())]).toEqual([3 * 12 + 200 * 102])
  })

  it('trains r·(in + out), and rₜ·(in + out) more for each task from the last attention’s output on', () => {
    const all = (r: number) => r * (2 * 32 + 2 * 24 + 3 * 40)
    expect(countParams(tune({ tasks: 3, taskRank: 2 }).params)).toBe(2 * all(4) + 3 * 2 * (32 + 3 * 40))
    expect(countParams(tune({}, linears).params)).toBe(2 * all(4))
  })

  it('says what is wrong', async () => {
    expect(() => tune({ tasks: 2 }, linears)).toThrow(
      'blocks.1.attn.o: tasks branch off here, and nothing ends their branches; widen "at" to blocks.1',
    )
    const tuned = tune({ tasks: 2 })
    expect(() => tuned.forward(tuned.params, { ids })).toThrow(
      "blocks.1: 2 tasks branch off here, and the inputs have no 'task'; give the number of each row's task, [2] of int32",
    )
    expect(() => tuned.forward(tuned.params, { ids, task: tasks(1, 0, 1) })).toThrow(
      "blocks.1: 'task' is [3] of int32; give the number of each row's task, [2] of int32",
    )
    expect(() => tune({ tasks: 2 }, [...at, 'blocks.1.attn'])).toThrow(
      'blocks.1.attn (attn): there is no weight here to adapt; narrow "at" to linear sites',
    )
    expect(() => mtlora({ tasks: -1 })).toThrow('mtlora: tasks must be a whole number of at least 0, found -1')
    expect(() => tune({ tasks: 1 }).fold({})).toThrow()
  })
})
