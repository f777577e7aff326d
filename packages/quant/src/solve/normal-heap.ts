import { inParts, inThreads, routines, threads } from '@weftjs/tensor/heap'
import { hasLapack, type Matrix } from '@weftjs/tensor/linalg'
import * as module from '../wasm/additive.generated.ts'
import type { Additive, AdditiveShape } from './additive.ts'
import { doublesAt, MOST, roomFor, SCRATCH, wordsAt } from './heap.ts'

/** numbers of W that are worked on together: 16 MB */
const AT_ONCE = 2 ** 21
/** rows that are worth a thread */
const LEAST = 8

/**
 * What least squares in the code books multiplies by, on the wasm heap until the tidy around it ends: books → what they
 * read of (W of them)·H, for the codes and scales as they are. Undefined where there is no heap of ours or no room there.
 */
export const onHeap = (
  { out, input, codebooks, bits, group, outGroup }: AdditiveShape,
  { codes, scales, books: { length } }: Additive,
  h: Matrix | undefined,
): ((books: Float64Array) => Float64Array) | undefined => {
  if (!h || hasLapack() || !routines(module) || 8 * input * input + 16 * length > MOST) return undefined
  const own = (input / group) * codebooks
  const height = Math.max(1, Math.min(out / outGroup, Math.floor(AT_ONCE / (input * outGroup))))
  const most = height * outGroup
  const [room, moment] = [roomFor(threads() * SCRATCH), roomFor(8 * input * input)]
  const [w, v] = [roomFor(8 * most * input), roomFor(8 * most * input)]
  const [vectors, sums] = [roomFor(8 * length), roomFor(8 * length)]
  const [at, scale] = [roomFor(4 * height * own), roomFor(8 * height)]
  doublesAt(moment, input * input).set(h.data)
  const kind = [codebooks, 2 ** bits, group, outGroup, input]
  return (books) => {
    doublesAt(vectors, length).set(books)
    doublesAt(sums, length).fill(0)
    for (let first = 0; first < out / outGroup; first += height) {
      const n = Math.min(height, out / outGroup - first)
      const rows = n * outGroup
      wordsAt(at, n * own).set(codes.subarray(first * own, (first + n) * own))
      doublesAt(scale, n).set(scales.subarray(first, first + n))
      inParts(module, 'rebuild', { n: rows, least: 4 * LEAST }, (from, count) => [
        ...[at, vectors, scale, w, ...kind, from, from + count],
      ])
      inParts(module, 'multiply', { n: rows, least: LEAST }, (from, count) => [
        ...[w, moment, v, input, input, from, from + count, room],
      ])
      inThreads(
        module,
        'gather',
        Array.from({ length: codebooks }, (_, c) => [at, v, scale, sums, ...kind, rows, c]),
      )
    }
    return doublesAt(sums, length).slice()
  }
}
