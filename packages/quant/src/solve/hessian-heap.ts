import { inThreads, routines } from '@weftjs/tensor/heap'
import { hasLapack } from '@weftjs/tensor/linalg'
import * as module from '../wasm/gptq.generated.ts'
import { doublesAt, inPieces, roomFor } from './heap.ts'
import { damped, lower, type Statistics } from './hessian.ts'

/** rows and columns that are factored at once */
const BLOCK = 64

const each =
  (routine: string) =>
  (calls: readonly (readonly number[])[]): void =>
    inThreads(module, routine, calls)

/** L with LLᵀ = A [n, n] in place of A at `a`, block by block of columns, each taken off from what is right of it; was there one? */
const factored = (a: number, n: number, room: number): boolean => {
  const here = routines(module)!
  for (let from = 0; from < n; from += BLOCK) {
    const to = Math.min(from + BLOCK, n)
    if (here['corner']!(a, n, from, to) >= 0) return false
    inPieces(each('panel'), [to, n], BLOCK, (first, last) => [a, n, from, to, first, last])
    inPieces(each('trail'), [to, n], BLOCK, (first, last) => [a, n, from, to, first, last, room])
  }
  return true
}

/** L⁻¹ [n, n] in place of L at `a`, with zeros above */
const inverted = (a: number, n: number, room: number, sums: number, copy: number): void => {
  const here = routines(module)!
  for (let from = 0; from < n; from += BLOCK) {
    const to = Math.min(from + BLOCK, n)
    doublesAt(copy, BLOCK * n).set(doublesAt(a + 8 * from * n, (to - from) * n))
    here['cornerInverse']!(a, n, from, to)
    inPieces(each('inverse'), [0, from], BLOCK, (left, right) => [a, n, from, to, left, right, copy, sums, room])
  }
}

/** `inverseFactor` on the heap: the address of U [n, n], of which the lower half is no part */
export const inverseFactorAt = (stats: Statistics, damp: number, room: number): number => {
  const { n } = stats
  const a = roomFor(8 * n * n)
  const [copy, sums] = [roomFor(8 * BLOCK * n), roomFor(8 * BLOCK * n)]
  damped(n, damp, (share) => {
    if (hasLapack()) {
      const l = lower(stats, share)
      if (l) doublesAt(a, n * n).set(l)
      return l && true
    }
    const view = doublesAt(a, n * n)
    stats.fill(view)
    for (let i = 0; i < n; i++) view[i * n + i]! += share
    return factored(a, n, room) || undefined
  })
  inverted(a, n, room, sums, copy)
  routines(module)!['reverse']!(a, n * n)
  return a
}
