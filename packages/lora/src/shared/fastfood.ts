import type { Params, Rng, Tensor } from '@weftjs/spec'
import { div, gatherRows, globalNorm, mul, pad, reshape, slice, sub, tensor, tidy, walshHadamard } from '@weftjs/tensor'

/** a random projection ℝᵈ → ℝᴰ, as tensors that stay fixed */
export interface Fastfood extends Params {
  /** B/√(D·ΣG²), B ±1: the factor of all stands at the few [d] */
  readonly signs: Tensor
  /** G, normal [L], L the power of two from D and d on */
  readonly gauss: Tensor
}

/** the power of two from n on */
const powerFrom = (n: number): number => 2 ** Math.ceil(Math.log2(n))
/** L */
export const paddedSize = (d: number, size: number): number => powerFrom(Math.max(d, size))

/**
 * Π, a permutation of L places, the same for all matrices of a size, whose G tell them apart: what it takes, modulo h, that
 * of d [L] int32
 */
export const orderOf = (rng: Rng, d: number, L: number): Tensor => {
  const h = powerFrom(d)
  const order = new Int32Array(L)
  for (let i = 0; i < L; i++) order[i] = i
  const draws = rng.numbers(L)
  for (let i = L - 1; i > 0; i--) {
    const j = Math.floor(draws[i]! * (i + 1))
    const held = order[i]!
    order[i] = order[j]!
    order[j] = held
  }
  for (let i = 0; i < L; i++) order[i]! &= h - 1
  return tensor(order, [L], 'int32')
}

/** @returns the projection that this stream of noise draws for `size` numbers */
export const fastfood = (rng: Rng, d: number, size: number): Fastfood =>
  tidy(() => {
    const gauss = rng.fork('gauss').normal([paddedSize(d, size)]) // [L]
    const signs = rng.fork('signs').bernoulli([d], 0.5) // 0 or 1 [d]
    return { signs: div(sub(mul(signs, 2), 1), mul(globalNorm({ gauss }), Math.sqrt(size))), gauss }
  })

/**
 * P·θ = (H·G·Π·H·B·θ)[:D]/√(D·ΣG²), H Walsh and Hadamard's transform: as long as θ on average, and never a matrix [D, d].
 * H·B·θ repeats itself after h numbers, since θ ends before: it is as long as that, and Π takes from it. The gradient is
 * the exact adjoint. θ [d] → [D]  —  Le, Sarlos and Smola, ICML 2013
 */
export const project = (theta: Tensor, { signs, gauss }: Fastfood, order: Tensor, size: number): Tensor => {
  const h = powerFrom(theta.size)
  const spread = walshHadamard(pad(mul(theta, signs), [[0, h - theta.size]])) // H·B·θ [h]
  const mixed = reshape(gatherRows(reshape(spread, [h, 1]), order), [order.size]) // Π
  return slice(walshHadamard(mul(mixed, gauss)), [0], [size]) // [D]
}
