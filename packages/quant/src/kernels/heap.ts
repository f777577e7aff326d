import type { Tensor } from '@weftjs/tensor'
import type { Decode } from '@weftjs/tensor/decoded'
import { addressOf, type HeapModule, heapBytes, inParts, output } from '@weftjs/tensor/heap'

/**
 * Where tables of a product lie on the heap, and behind them room for so many floats more: made for a product, disposed
 * by the tidy around it.
 */
export const placed = (tables: readonly Float32Array[], more = 0): number[] => {
  const sizes = tables.map((t) => t.length)
  const all = output([sizes.reduce((n, s) => n + s, more)])
  let at = addressOf(all)
  return [...tables, undefined].map((t) => {
    const here = at
    if (t) {
      heapBytes(at, t.byteLength).set(new Uint8Array(t.buffer, t.byteOffset, t.byteLength))
      at += t.byteLength
    }
    return here
  })
}

/** numbers that are worth a thread: about 0.03 ms */
export const PART: number = 2 ** 17
/**
 * n numbers in threads, by a routine whose last arguments but for `last` are the range: it begins at a multiple of `unit`,
 * so many as fill whole words.
 */
export const inRanges = (
  module: HeapModule,
  routine: string,
  [n, unit]: readonly [n: number, unit: number],
  values: readonly number[],
  last: number,
): void =>
  inParts(module, routine, { n: Math.ceil(n / unit), least: PART / unit }, (first, count) => [
    ...[...values, unit * first, Math.min(unit * (first + count), n), last],
  ])
/** for each of some blocks, of which a routine takes the range and then where their results go */
export const inBlocks = (
  module: HeapModule,
  routine: string,
  [count, block]: readonly [count: number, block: number],
  values: readonly number[],
  out: Tensor,
): void => {
  const at = addressOf(out)
  inParts(module, routine, { n: count, least: Math.ceil(PART / block) }, (from, count) => [
    ...[...values, from, from + count, at],
  ])
}
/** by a routine that takes `values`, the range and where it goes; a part begins where a byte does */
export const threaded =
  (module: HeapModule, routine: string, values: readonly number[]): Decode =>
  (from, to, at) =>
    inParts(module, routine, { n: Math.ceil((to - from) / 8), least: PART / 8 }, (first, count) => {
      const start = from + 8 * first
      return [...values, start, Math.min(start + 8 * count, to), at + 32 * first]
    })
