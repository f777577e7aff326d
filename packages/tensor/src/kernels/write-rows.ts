import { backend, concat, slice, type Tensor } from '@tensorflow/tfjs-core'
import { engine } from '../engine.ts'
import { kernels } from '../kernel.ts'

/** a tensor [..., C, S] to write to, and rows [..., T, S] of float32 */
export type RowsInto = readonly [into: Tensor, x: Tensor]

/** All pairs are of equal shapes, T rows go to `at`, and nobody else holds the data of what is written. */
export type WriteRows = (pairs: readonly RowsInto[], at: number) => boolean

/** by the backend's name; false declines, with nothing changed */
export const writeRowsOn: Record<string, WriteRows> = {
  cpu: (pairs, at) => {
    const values = (t: Tensor): Float32Array => backend().readSync(t.dataId) as Float32Array
    for (const [into, x] of pairs) {
      const [to, from] = [values(into), values(x)]
      eachRun(into, x, at, (start, source, n) => to.set(from.subarray(source, source + n), start))
    }
    return true
  },
}

/** the runs of numbers that lie together in both */
export const eachRun = (
  { shape: room }: Tensor,
  { shape }: Tensor,
  at: number,
  write: (to: number, from: number, n: number) => void,
): void => {
  const [T, S] = shape.slice(-2) as [number, number]
  const step = room.at(-2)! * S
  const outer = shape.slice(0, -2).reduce((p, n) => p * n, 1)
  for (let i = 0; i < outer; i++) write(i * step + at * S, i * T * S, T * S)
}

const rows = (x: Tensor, from: number, n: number): Tensor => {
  const begin = x.shape.map((_, i) => (i === x.rank - 2 ? from : 0))
  return slice(
    x,
    begin,
    x.shape.map((size, i) => (i === x.rank - 2 ? n : size)),
  )
}

/**
 * Each tensor [..., C, S] with its rows from `at` on replaced by x [..., T, S]: itself, written over, where nobody else
 * holds its data and the backend can; elsewhere a new one. For caches: not recorded for gradients.
 * @throws Error where the rows do not fit
 */
export const writeRows = (pairs: readonly RowsInto[], at: number): Tensor[] => {
  for (const [into, x] of pairs) {
    const [T, C] = [x.shape.at(-2)!, into.shape.at(-2)!]
    if (at < 0 || at + T > C) throw new Error(`writeRows: rows ${at} to ${at + T} of ${C}; make room first`)
  }
  const alone = pairs.every(([into]) => backend().refCount(into.dataId) === 1)
  if (alone && !kernels.plain && writeRowsOn[engine().backendName]?.(pairs, at)) return pairs.map(([into]) => into)
  return pairs.map(([into, x]) => {
    const [T, C] = [x.shape.at(-2)!, into.shape.at(-2)!]
    return concat([rows(into, 0, at), x, rows(into, at + T, C - at - T)], x.rank - 2)
  })
}
