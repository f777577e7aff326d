import type { Tensor, Weight } from '@weftjs/spec'
import { reshape, transpose } from '@weftjs/tensor'
import { mapped } from './mapped.ts'

const swap = (x: Tensor): Tensor => transpose(x, [0, 2, 1])

/** A⊗B by (A⊗B)·vec(X) = vec(A·X·Bᵀ), X [in of A, in of B]: x is only reshaped, the product is never filled in */
export const kron = (a: Weight, b: Weight): Weight => {
  const [[l, m], [k, n]] = [a.shape, b.shape]
  const onA = (x: Tensor): Tensor => swap(a.apply(swap(x))) // [N, m, ·] → [N, l, ·]
  // numbers multiplied for one x, by which of the two goes first
  const bFirst = m * n * k + k * m * l <= m * n * l + l * n * k
  const parts = Object.fromEntries(
    [a, b].flatMap((w, i) => Object.entries(w.parts).map(([name, t]) => [`${i}.${name}`, t] as const)),
  )
  return mapped([l * k, m * n], parts, (x) => {
    const grid = reshape(x, [-1, m, n])
    const y = bFirst ? onA(b.apply(grid)) : b.apply(onA(grid)) // [N, l, k]
    return reshape(y, [...x.shape.slice(0, -1), l * k])
  })
}
