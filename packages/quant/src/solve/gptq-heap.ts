import { tidy } from '@weftjs/tensor'
import { inParts, routines, threads } from '@weftjs/tensor/heap'
import * as module from '../wasm/gptq.generated.ts'
import type { Columns } from './gptq.ts'
import { doublesAt, floatsAt, heapBytes, MOST, roomFor, SCRATCH, wordsAt } from './heap.ts'
import { inverseFactorAt } from './hessian-heap.ts'

/** numbers of W that are worked on together: 32 MB */
const AT_ONCE = 2 ** 22
/** rows that are worth a thread */
const LEAST = 4

/** `plain` of gptq.ts in threads over rows, on the wasm heap; false where there is none, or U has no room there */
export const onHeap = ({ out, n, most, group, symmetric, damp, blocks, stats, ...its }: Columns): boolean => {
  if (!routines(module) || 8 * n * n > MOST) return false
  const groups = n / group
  const height = Math.max(1, Math.min(out, Math.floor(AT_ONCE / n)))
  tidy(() => {
    const room = roomFor(threads() * SCRATCH)
    const [tile, errors] = [roomFor(8 * height * n), roomFor(8 * height * 128)]
    const [codes, scale, zero] = [roomFor(height * n), roomFor(4 * height * groups), roomFor(height * groups)]
    const [place, groupOf, what] = [roomFor(4 * n), roomFor(4 * n), roomFor(64)]
    const u = inverseFactorAt(stats, damp, room)
    wordsAt(place, n).set(its.place)
    wordsAt(groupOf, n).set(its.groupOf)
    wordsAt(what, 14).set([
      ...[tile, u, place, groupOf, codes, scale, zero, errors, room],
      ...[n, group, most, Number(symmetric), Number(its.fitted)],
    ])
    for (let first = 0; first < out; first += height) {
      const rows = Math.min(height, out - first)
      const part = <T extends { subarray(from: number, to: number): T }>(x: T, each: number): T =>
        x.subarray(first * each, (first + rows) * each)
      its.fill(doublesAt(tile, rows * n), first, rows)
      floatsAt(scale, rows * groups).set(part(its.scale, groups))
      heapBytes(zero, rows * groups).set(part(its.zero, groups))
      for (const [from, to] of blocks)
        inParts(module, 'block', { n: rows, least: LEAST }, (at, count) => [what, from, to, at, at + count])
      part(its.codes, n).set(heapBytes(codes, rows * n))
      part(its.scale, groups).set(floatsAt(scale, rows * groups))
      part(its.zero, groups).set(heapBytes(zero, rows * groups))
    }
    return []
  })
  return true
}
