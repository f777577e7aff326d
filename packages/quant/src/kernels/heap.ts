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
const PART = 2 ** 17
/** by a routine that takes `values`, the range and where it goes; a part begins where a byte does */
export const threaded =
  (module: HeapModule, routine: string, values: readonly number[]): Decode =>
  (from, to, at) =>
    inParts(module, routine, { n: Math.ceil((to - from) / 8), least: PART / 8 }, (first, count) => {
      const start = from + 8 * first
      return [...values, start, Math.min(start + 8 * count, to), at + 32 * first]
    })
