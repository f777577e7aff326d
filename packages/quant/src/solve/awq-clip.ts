import {
  abs,
  fill,
  less,
  matMul,
  max,
  maximum,
  minimum,
  mul,
  neg,
  reshape,
  slice,
  stack,
  sub,
  sum,
  type Tensor,
  type Tensor2D,
  tidy,
  transpose,
  where,
} from '@weftjs/tensor'
import { addressOf, inParts, output, routines, threads } from '@weftjs/tensor/heap'
import * as module from '../wasm/awq.generated.ts'
import { throughGrid } from './awq-grid.ts'
import { roomFor } from './heap.ts'

/** the library tries 1 − i/20 of the largest magnitude, i = 0 ... 9 */
const STEPS = 20
const TRIES = 10

/** the blocks on the diagonal of m [in, in] → [in/block, block, block] */
const diagonalBlocks = (m: Tensor, block: number): Tensor =>
  stack(
    Array.from({ length: m.shape[0]! / block }, (_, g) => slice(m, [g * block, g * block], [block, block])),
    0,
  )

/**
 * The largest magnitude that each group of each row may have, [out, in/block]: of 0.55 to 1 of its own, in steps of a
 * 20th, the one whose rounding changes least what the group adds to the output, E[(Σ Δw·x)²] = Δw·M·Δwᵀ with M the group's
 * block of E[x·xᵀ] (the library takes the mean over 512 tokens at most)  —  Lin et al., arXiv:2306.00978.
 */
export const clipLimits = (w: Tensor2D, moment: Tensor, block: number): Tensor =>
  tidy(() => onHeap(w, moment, block) ?? inOps(w, moment, block))

/** in threads over rows, each group in one go while its block of the moments is in the cache; undefined where there is no heap of ours */
const onHeap = (w: Tensor2D, moment: Tensor, block: number): Tensor | undefined => {
  if (block % 8 || !routines(module)) return undefined
  const [out, width] = w.shape
  const limit = output([out, width / block])
  const room = roomFor(4 * threads() * ((block + 4) * block + 64))
  const [x, m, y] = [w, moment, limit].map(addressOf) as [number, number, number]
  inParts(module, 'limits', { n: Math.ceil(out / 4), least: 4 }, (from, n) => [
    ...[x, m, y, out, width, block, TRIES, STEPS, from, from + n, room],
  ])
  return limit
}

const inOps = (w: Tensor2D, moment: Tensor, block: number): Tensor => {
  const [out, width] = w.shape
  const G = width / block
  const x = transpose(reshape(w, [out, G, block]), [1, 0, 2]) // [G, out, block]
  const m = diagonalBlocks(moment, block) // [G, block, block]
  const largest = max(abs(x), -1, true) // [G, out, 1]
  let limit = largest
  let least = fill(largest.shape, 3e38)
  for (let i = 0; i < TRIES; i++) {
    const to = mul(largest, 1 - i / STEPS)
    const rest = sub(throughGrid(maximum(minimum(x, to), neg(to))), x) // [G, out, block]
    const error = sum(mul(matMul(rest, m), rest), -1, true) // [G, out, 1]
    const better = less(error, least)
    limit = where(better, to, limit)
    least = where(better, error, least)
  }
  return transpose(reshape(limit, [G, out]))
}

/** w [out, in] with each group held within its limit */
export const clipped = (w: Tensor2D, moment: Tensor, block: number): Tensor2D => {
  const [out, width] = w.shape
  if (moment.shape.join() !== [width, width].join())
    throw new Error(
      `awq: E[x·xᵀ] is [${moment.shape}] where the matrix reads ${width} numbers; calibrate on this network`,
    )
  const limit = reshape(clipLimits(w, moment, block), [out, width / block, 1])
  const x = reshape(w, [out, width / block, block])
  return reshape(maximum(minimum(x, limit), neg(limit)), [out, width]) as Tensor2D
}
