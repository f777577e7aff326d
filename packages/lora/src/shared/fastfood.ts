import type { Params, Rng, Tensor } from '@weftjs/spec'
import { mul, pad, slice, sub, tensor, walshHadamard } from '@weftjs/tensor'
import { inverseOf, permute } from './permute.ts'

/** a random projection ℝᵈ → ℝᴰ, as tensors that stay fixed */
export interface Fastfood extends Params {
  /** B, ±1 [d] */
  readonly signs: Tensor
  /** Π, a permutation [L] int32, L the power of two from D and d on */
  readonly order: Tensor
  /** Πᵀ [L] int32 */
  readonly back: Tensor
  /** G/√(D·ΣG²), G normal [L] */
  readonly gauss: Tensor
}

/** @returns the projection that this stream of noise draws for `size` numbers */
export const fastfood = (rng: Rng, d: number, size: number): Fastfood => {
  const L = 2 ** Math.ceil(Math.log2(Math.max(d, size)))
  const order = Int32Array.from({ length: L }, (_, i) => i)
  const draws = rng.fork('order').numbers(L)
  for (let i = L - 1; i > 0; i--) {
    const j = Math.floor(draws[i]! * (i + 1))
    const held = order[i]!
    order[i] = order[j]!
    order[j] = held
  }
  const g = rng.fork('gauss').normal([L]) // [L]
  const squares = (g.dataSync() as Float32Array).reduce((s, v) => s + v * v, 0)
  const signs = rng.fork('signs').bernoulli([d], 0.5) // 0 or 1 [d]
  return {
    signs: sub(mul(signs, 2), 1),
    order: tensor(order, [L], 'int32'),
    back: tensor(inverseOf(order), [L], 'int32'),
    gauss: mul(g, 1 / Math.sqrt(size * squares)),
  }
}

/**
 * P·θ = (H·G·Π·H·B·θ)[:D]/√(D·ΣG²), H Walsh and Hadamard's transform: as long as θ on average, and never a matrix [D, d].
 * The gradient is its exact adjoint. θ [d] → [D]  —  Le, Sarlos and Smola, ICML 2013
 */
export const project = (theta: Tensor, { signs, order, back, gauss }: Fastfood, size: number): Tensor => {
  const L = order.size
  const spread = walshHadamard(pad(mul(theta, signs), [[0, L - theta.size]])) // H·B·θ [L]
  const mixed = permute(spread, order, back) // Π
  return slice(walshHadamard(mul(mixed, gauss)), [0], [size]) // [D]
}
