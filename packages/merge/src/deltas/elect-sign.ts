import type { Tensor } from '@weftjs/spec'
import {
  abs,
  add,
  cast,
  div,
  equal,
  greaterEqual,
  less,
  mul,
  onesLike,
  sign,
  sub,
  tidy,
  where,
  zerosLike,
} from '@weftjs/tensor'
import type { Combine } from './on-deltas.ts'
import { checkWeights, NO_DIVISOR, weigh } from './weighted-sum.ts'

/**
 * Each entry takes the sign of Σ wᵢ·τᵢ (+ for zero) and sums the wᵢ·τᵢ of that sign, divided, where `normalize`, by the
 * sum of their wᵢ  —  the election and the disjoint mean of TIES, Yadav et al., arXiv:2306.01708
 */
export const electSign =
  (normalize: boolean): Combine =>
  (deltas, ctx) => {
    checkWeights(deltas, ctx)
    const { weights } = ctx
    return tidy(() => {
      const elected = tidy(() => sub(mul(cast(greaterEqual(weigh(deltas, weights), 0), 'float32'), 2), 1)) // ±1
      let merged: Tensor = zerosLike(elected)
      let divisor: Tensor = zerosLike(elected)
      deltas.forEach((delta, i) => {
        const next = tidy(() => {
          const weighted = mul(delta, weights[i]!)
          const agrees = cast(equal(sign(weighted), elected), 'float32')
          return [add(merged, mul(weighted, agrees)), add(divisor, mul(agrees, weights[i]!))] as Tensor[]
        }) as [Tensor, Tensor]
        merged.dispose()
        divisor.dispose()
        ;[merged, divisor] = next
      })
      return normalize ? div(merged, where(less(abs(divisor), NO_DIVISOR), onesLike(divisor), divisor)) : merged
    })
  }
