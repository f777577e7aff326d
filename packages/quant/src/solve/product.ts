import { tidy } from '@weftjs/tensor'
import { inParts, routines, threads } from '@weftjs/tensor/heap'
import { hasLapack, type Matrix, multiply } from '@weftjs/tensor/linalg'
import * as module from '../wasm/additive.generated.ts'
import { doublesAt, MOST, roomFor, SCRATCH } from './heap.ts'

/** numbers of A that are multiplied together: 16 MB */
const AT_ONCE = 2 ** 21
/** rows that are worth a thread */
const LEAST = 8

/** A·B in float64: by LAPACK where it is on, else on the wasm heap in threads over rows, in the order of `multiply` */
export const product = (a: Matrix, b: Matrix): Matrix => {
  const [out, n, m] = [a.rows, a.cols, b.cols]
  const height = Math.max(1, Math.min(out, Math.floor(AT_ONCE / Math.max(n, m))))
  if (hasLapack() || !routines(module) || 8 * n * m > MOST) return multiply(a, b)
  const data = new Float64Array(out * m)
  tidy(() => {
    const room = roomFor(threads() * SCRATCH)
    const [x, y, w] = [roomFor(8 * height * n), roomFor(8 * height * m), roomFor(8 * n * m)]
    doublesAt(w, n * m).set(b.data)
    for (let first = 0; first < out; first += height) {
      const rows = Math.min(height, out - first)
      doublesAt(x, rows * n).set(a.data.subarray(first * n, (first + rows) * n))
      inParts(module, 'multiply', { n: rows, least: LEAST }, (at, count) => [x, w, y, n, m, at, at + count, room])
      data.set(doublesAt(y, rows * m), first * m)
    }
    return []
  })
  return { rows: out, cols: m, data }
}
