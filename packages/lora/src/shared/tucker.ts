import type { Tensor, Tensor2D } from '@weftjs/spec'
import { matMul, reshape, transpose } from '@weftjs/tensor'

/**
 * G ×₁ U₁ ×₂ U₂ ..., every mode of the core multiplied by its factor: core [r₁, r₂, ...], factors [d_m, r_m] → [d₁, d₂, ...]
 *
 * Linear matrices (two modes) and kernels of convolutions in one, two or three dimensions (three to five modes) alike.
 */
export const tucker = (core: Tensor, factors: readonly Tensor2D[]): Tensor => {
  if (core.rank !== factors.length)
    throw new Error(`tucker: a core of ${core.rank} modes and ${factors.length} factors; give one factor for each mode`)
  factors.forEach((u, m) => {
    if (u.shape[1] !== core.shape[m])
      throw new Error(`tucker: mode ${m} of the core has ${core.shape[m]} entries, its factor is [${u.shape}]`)
  })
  // the first mode is multiplied and goes to the end; after as many turns as modes, all are back in order
  return factors.reduce<Tensor>((g, u) => {
    const [r, ...rest] = g.shape as [number, ...number[]]
    const turned = transpose(reshape(g, [r, -1])) // [rest, r_m]
    return reshape(matMul(turned, u, false, true), [...rest, u.shape[0]]) // [...rest, d_m]
  }, core)
}
