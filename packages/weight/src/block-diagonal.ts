import type { Tensor, Tensor3D, Weight } from '@weftjs/spec'
import { blockProduct, linear, reshape } from '@weftjs/tensor'
import { mapped } from './mapped.ts'

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
    n === count ? blockProduct(x, blocks) : shared(x, blocks, count),
  )
}
