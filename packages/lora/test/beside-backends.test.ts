import { attach, nextToken } from '@weftjs/model'
import type { Adapter } from '@weftjs/spec'
import { add, backprop, cpu, mapParams, rng, tensor, wasm } from '@weftjs/tensor'
import { hasGpuFiles, nodeWebgpu } from '@weftjs/tensor/node-webgpu'
import { tinyLlama } from '@weftjs/testkit'
import { expect, it } from 'vitest'
import {
  compacter,
  hydra,
  iaa,
  mixda,
  mosa,
  parallel,
  polyhistor,
  prefix,
  qst,
  series,
  ssf,
  vlPet,
} from '../src/index.ts'
import { distance } from './fixture.ts'

const HALVES = 'blocks.*.{attn,mlp}'
const CASES: readonly (readonly [adapter: Adapter<any>, at: string | readonly string[]])[] = [
  [series({ width: 4, scale: 'learned', bias: true, dropout: 0.2 }), '**.{q,down}'],
  [series({ width: 4, activation: 'identity' }), '**.{q,down}'],
  [parallel({ width: 4, activation: 'silu' }), HALVES],
  [prefix({ length: 3, hidden: 4 }), '**.core'],
  [prefix({ length: 3, form: 'gated' }), '**.core'],
  [hydra({ parallel: 2, sequential: 2, bias: true }), '**.{q,v,down}'],
  [ssf(), ['**.{q,v,down}', '**.norm*', 'norm', 'head']],
  [vlPet({ width: 3, gateWidth: 3 }), HALVES],
  [vlPet({ width: 3, granularity: 'middleX' }), HALVES],
  [iaa({ inside: 3, aside: 3, carried: true }), ['blocks.*', HALVES, 'norm']],
  [compacter({ reduction: 2, rank: 2 }), HALVES],
  [polyhistor({ embedding: 4, rank: 2, reduction: 4, template: 8, tasks: 2 }), 'blocks.*.mlp'],
  [mosa({ width: 4, split: 'both' }), 'blocks.*.mlp'],
  [mixda({ domains: 2, reduction: 4, gateWidth: 4 }), 'blocks.*.mlp.down'],
  [qst({ reduction: 2, rank: 3, alpha: 0.5 }), ['blocks.*', 'norm']],
  [qst({ reduction: 2, down: 'max', alpha: 0.5 }), ['blocks.*', 'norm']],
]

/** loss and gradients of a training pass */
const found = async (
  adapter: Adapter<any>,
  at: string | readonly string[],
): Promise<Record<string, ArrayLike<number>>> => {
  const tuned = attach(tinyLlama(rng(0)), [{ adapter, at }], rng(1))
  const params = mapParams(tuned.params, (p, n) => add(p, rng(7).fork(n).normal(p.shape, 0.1)))
  const ints = (values: number[], shape: number[]) => tensor(values, shape, 'int32')
  const inputs = { ids: ints([1, 2, 3, 4, 5, 6, 7, 8], [2, 4]), task: ints([0, 1], [2]), generic: ints([0, 1], [2]) }
  const batch = { shape: [2, 4] as const, targets: Int32Array.from([2, 3, 4, -100, 7, 8, 9, -100]) }
  const { grads, loss } = backprop(
    (p) => nextToken(tuned.run(p, inputs, { training: true, rng: rng(3) }), batch),
    params,
  )
  return Object.fromEntries(
    await Promise.all(Object.entries({ ...grads, loss }).map(async ([n, g]) => [n, await g.data()] as const)),
  )
}

const all = async (start: () => Promise<unknown>): Promise<Record<string, ArrayLike<number>>[]> => {
  await start()
  const results: Record<string, ArrayLike<number>>[] = []
  for (const [adapter, at] of CASES) results.push(await found(adapter, at))
  return results
}

const expectSame = async (start: () => Promise<unknown>): Promise<void> => {
  const [want, got] = [await all(cpu), await all(start)]
  for (const [i, [{ name }]] of CASES.entries())
    for (const [tensor, values] of Object.entries(want[i]!))
      expect(distance(got[i]![tensor]!, values), `${name} ${tensor}`).toBeLessThan(2e-5)
}

it('adapters on activations give one loss and one gradient on the wasm heap and on the CPU', () => expectSame(wasm))

it.skipIf(!(await hasGpuFiles()))('and on WebGPU', () => expectSame(nodeWebgpu), 120_000)
