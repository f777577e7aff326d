import { tidy } from '@weftjs/tensor'
import { inParts, routines, threads } from '@weftjs/tensor/heap'
import * as module from '../wasm/additive.generated.ts'
import type { Additive, AdditiveShape } from './additive.ts'
import type { SearchOptions } from './beam.ts'
import { doublesAt, MOST, roomFor, SCRATCH, wordsAt } from './heap.ts'

/** bytes of guesses that are worked on together */
const AT_ONCE = 2 ** 26
/** row groups that are worth a thread: it weighs the code books by H anew */
const LEAST = 16

/** code books [codebooks, 2^bits, d] → [codebooks, d, 2^bits] */
const turned = (books: Float64Array, to: Float64Array, size: number, d: number): void => {
  for (let c = 0; c < books.length; c += size * d)
    for (let i = 0; i < size; i++) for (let t = 0; t < d; t++) to[c + t * size + i] = books[c + i * d + t]!
}

/** `search` of beam.ts on the wasm heap, in threads over row groups, from W − Ŵ; undefined where there is none, or no room there */
export const onHeap = (
  gap: Float64Array,
  { out, input, codebooks, bits, group, outGroup }: AdditiveShape,
  { codes, books, scales }: Additive,
  { moment, beam }: SearchOptions,
): Int32Array | undefined => {
  const [size, d, columns, heights] = [2 ** bits, group * outGroup, input / group, out / outGroup]
  const sets = beam > 1 ? 2 * beam : 1
  const [gaps, own] = [outGroup * input, columns * codebooks]
  const bytes = sets * (8 * gaps + 4 * own + 8 + 8 * d)
  const each = SCRATCH + 8 * (group * group + d + 2 * group + (codebooks + 1) * size + 2 * beam)
  const room = 16 * books.length + (moment ? 8 * input * input : 0) + threads() * each + bytes
  if (!routines(module) || room > MOST) return undefined
  const height = Math.max(1, Math.min(heights, Math.floor(AT_ONCE / bytes)))
  const found = new Int32Array(codes.length)
  const last = beam > 1 && own % 2 ? beam : 0
  tidy(() => {
    const forAll = (bytesOfOne: number): number => roomFor(sets * height * bytesOfOne)
    const [gapAt, lossAt, pullAt, codesAt] = [forAll(8 * gaps), forAll(8), forAll(8 * d), forAll(4 * own)]
    const [scalesAt, roomAt] = [roomFor(8 * height), roomFor(threads() * each)]
    const [booksAt, turnedAt, what] = [roomFor(8 * books.length), roomFor(8 * books.length), roomFor(128)]
    const momentAt = moment ? roomFor(8 * input * input) : 0
    if (moment) doublesAt(momentAt, input * input).set(moment.data)
    doublesAt(booksAt, books.length).set(books)
    turned(books, doublesAt(turnedAt, books.length), size, d)
    for (let first = 0; first < heights; first += height) {
      const n = Math.min(height, heights - first)
      doublesAt(gapAt, n * gaps).set(gap.subarray(first * gaps, (first + n) * gaps))
      wordsAt(codesAt, n * own).set(codes.subarray(first * own, (first + n) * own))
      doublesAt(scalesAt, n).set(scales.subarray(first, first + n))
      doublesAt(lossAt, n).fill(0)
      wordsAt(what, 17).set([
        ...[gapAt, codesAt, lossAt, pullAt, booksAt, turnedAt, scalesAt, momentAt, roomAt, each],
        ...[input, codebooks, size, group, outGroup, beam, n],
      ])
      inParts(module, 'search', { n, least: LEAST }, (from, count) => [what, from, from + count])
      found.set(wordsAt(codesAt + 4 * last * n * own, n * own), first * own)
    }
    return []
  })
  return found
}
