import { inParts, routines } from '@weftjs/tensor/heap'
import * as module from '../wasm/additive.generated.ts'
import { doublesAt, MOST, roomFor, wordsAt } from './heap.ts'
import type { Points } from './kmeans.ts'

/** products of a number and a center's that are worth a thread */
const PART = 2 ** 15
/** where a center lies that none is near to */
const NOWHERE = 1e150

/** points on the wasm heap, compared in threads, until the tidy around it ends; undefined where there is none, or no room there */
export const onHeap = (x: Float64Array, d: number, weights: Float64Array | undefined): Points | undefined => {
  if (!routines(module) || 8 * x.length * (weights ? 2 : 1) > MOST) return undefined
  const n = x.length / d
  const [at, gaps, nearest, center] = [roomFor(8 * x.length), roomFor(8 * n), roomFor(4 * n), roomFor(8 * d)]
  const w = weights ? roomFor(8 * x.length) : 0
  doublesAt(at, x.length).set(x)
  if (weights) doublesAt(w, x.length).set(weights)
  doublesAt(gaps, n).fill(Number.POSITIVE_INFINITY)
  wordsAt(nearest, n).fill(0)
  let [table, room] = [0, 0]
  return {
    gaps: () => doublesAt(gaps, n),
    nearer: (c) => {
      doublesAt(center, d).set(c)
      inParts(module, 'nearer', { n, least: Math.ceil(PART / d) }, (from, count) => [
        ...[at, w, center, d, from, from + count, gaps],
      ])
    },
    assign: (centers) => {
      const k = centers.length / d
      const wide = 8 * Math.ceil(k / 8) // places to compare with side by side
      if (wide > room) [table, room] = [roomFor(8 * wide * d), wide]
      const view = doublesAt(table, wide * d).fill(NOWHERE)
      for (let j = 0; j < k; j++) for (let t = 0; t < d; t++) view[t * wide + j] = centers[j * d + t]!
      inParts(module, 'assign', { n, least: Math.ceil(PART / (d * k)) }, (from, count) => [
        ...[at, w, table, d, wide, from, from + count, nearest, gaps],
      ])
      return [wordsAt(nearest, n).slice(), doublesAt(gaps, n).slice()]
    },
  }
}
