import type { Tensor, Tensor3D, Weight } from '@weftjs/spec'
import { linear, matMul, reshape, transpose } from '@weftjs/tensor'
import { mapped } from './mapped.ts'

/** y = x·Wᵀ for each of n vectors by its own block: x [..., n·q], w [n, p, q] → [..., n·p] */
const applied = (x: Tensor, w: Tensor3D): Tensor => {
  const [n, p, q] = w.shape
  const byBlock = transpose(reshape(x, [-1, n, q]), [1, 0, 2]) // [n, M, q]
  const y = matMul(byBlock, w, false, true) // [n, M, p]
  return reshape(transpose(y, [1, 0, 2]), [...x.shape.slice(0, -1), n * p])
}

/** the same block for all: x [..., count·q] as rows of q */
const shared = (x: Tensor, w: Tensor3D, count: number): Tensor => {
  const [, p, q] = w.shape
  const y = linear(reshape(x, [-1, q]), reshape(w, [p, q])) // [M·count, p]
  return reshape(y, [...x.shape.slice(0, -1), count * p])
}

/** diag(W₁, ..., Wₙ), never filled up with zeros to be applied: blocks [n, p, q], or [1, p, q] that stands `count` times */
export const blockDiagonal = (blocks: Tensor3D, count: number = blocks.shape[0]): Weight => {
  const [n, p, q] = blocks.shape
  if (n !== count && n !== 1)
    throw new Error(`blockDiagonal: ${n} blocks cannot stand ${count} times; give 1 or ${count}`)
  return mapped([count * p, count * q], { blocks }, (x) =>
    n === count ? applied(x, blocks) : shared(x, blocks, count),
  )
}
