import { attach, type Tuned } from '@weftjs/model'
import type { Adapter, Params } from '@weftjs/spec'
import { add, cpu, mapParams, rng, type Tensor } from '@weftjs/tensor'
import { tinyLlama } from '@weftjs/testkit'

await cpu()

export type Rows = readonly (readonly number[])[]
export const rowsOf = (t: Tensor): Rows => t.arraySync() as number[][]
export const times = (a: Rows, b: Rows): Rows =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((s, v, k) => s + v * b[k]![j]!, 0)))
export const turn = (a: Rows): Rows => a[0]!.map((_, j) => a.map((row) => row[j]!))
export const plus = (a: Rows, b: Rows, s = 1): Rows => a.map((row, i) => row.map((v, j) => v + s * b[i]![j]!))
export const unit = (n: number): Rows =>
  Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => Number(i === j)))
export const apart = (a: Rows, b: Rows): number =>
  a.length !== b.length
    ? Number.POSITIVE_INFINITY
    : Math.max(...a.flatMap((row, i) => row.map((v, j) => Math.abs(v - (b[i]?.[j] ?? Number.NaN)))))

export const network = tinyLlama(rng(0), { biases: true })

/** A method at one matrix, [24, 16] by default, away from its start: the matrix before and after, and what trains. */
export const one = (
  adapter: Adapter<any>,
  {
    at = 'blocks.0.mlp.up',
    far = 0.3,
    change,
  }: { at?: string; far?: number; change?: (p: Tensor, key: string) => Tensor } = {},
): { tuned: Tuned; params: Params; state: (key: string) => Rows; w: Rows; after: Rows } => {
  const tuned = attach(network, [{ adapter, at }], rng(1))
  const key = (name: string): string => name.split('.').at(-1)!
  const noise = rng(2)
  const params = mapParams(tuned.params, (p, n) =>
    change ? change(p, key(n)) : add(p, noise.fork(n).normal(p.shape, far)),
  )
  return {
    ...{ tuned, params },
    state: (name) => rowsOf(params[`${at}.${adapter.name}.${name}`]!),
    w: rowsOf(network.weights[at]!.dense()),
    after: rowsOf(tuned.fold(params).weights[at]!.dense()),
  }
}
