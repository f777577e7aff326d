import type { Adapter, Site, Tensor2D, Weight } from '@weftjs/spec'
import { expandDims, matMul, mul, reshape, type Tensor, zeros } from '@weftjs/tensor'
import { dense, lowRank, scale, sum } from '@weftjs/weight'
import { type Lycoris, lycorisDropped, mustBeChance } from './shared/dropped.ts'
import { type Ranked, ranked } from './shared/ranked.ts'
import { kaiming, mustFit } from './shared/start.ts'

/** r, α (the update is scaled by α/r), patterns for both, and LyCORIS' dropout */
export interface LohaOptions extends Ranked, Lycoris {}
/** X₁ [out, r], Y₁ [r, in], X₂ [out, r], Y₂ [r, in] */
export interface LohaState extends Record<string, Tensor> {
  x1: Tensor2D
  y1: Tensor2D
  x2: Tensor2D
  y2: Tensor2D
}

/** numbers that train at a site: 2·r·(in + out) */
export const trainable = ({ in: n, out }: Site, { rank = 8 }: LohaOptions = {}): number => 2 * rank * (n + out)

/** row by row x⊗y: x [n, r], y [n, s] → [n, r·s] */
const faceSplitting = (x: Tensor, y: Tensor): Tensor2D =>
  reshape(mul(expandDims(x, 2), expandDims(y, 1)), [x.shape[0]!, -1]) as Tensor2D
/** the same for columns: x [r, n], y [s, n] → [r·s, n] */
const khatriRao = (x: Tensor, y: Tensor): Tensor2D =>
  reshape(mul(expandDims(x, 1), expandDims(y, 0)), [-1, x.shape[1]!]) as Tensor2D

/** (X₁Y₁)⊙(X₂Y₂), of rank r²: as such a product where that is less to multiply than the matrix filled in */
const hadamard = ({ x1, y1, x2, y2 }: LohaState): Weight => {
  const [out, r] = x1.shape
  const input = y1.shape[1]
  if (r * r * (out + input) < out * input) return lowRank(faceSplitting(x1, x2), khatriRao(y1, y2))
  return dense(mul(matMul(x1, y1), matMul(x2, y2)) as Tensor2D) // [out, in]
}

/** W + (α/r)·(X₁Y₁)⊙(X₂Y₂), Y₂ zero  —  Hyeon-Woo et al., arXiv:2108.06098; LoHa of Yeh et al., arXiv:2309.14859 */
export const loha = (options: LohaOptions = {}): Adapter<LohaState> => {
  const at = ranked('loha', options)
  mustBeChance('loha: rankDropout', options.rankDropout ?? 0)
  mustBeChance('loha: moduleDropout', options.moduleDropout ?? 0)
  return {
    name: 'loha',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const { rank: r } = at(site)
      mustFit(site, r)
      const draw = (key: string, ...shape: number[]): Tensor2D => kaiming(rng.fork(key), shape) as Tensor2D
      const [x1, y1, x2] = [draw('x1', out, r), draw('y1', r, input), draw('x2', out, r)]
      return { state: { x1, y1, x2, y2: zeros([r, input]) as Tensor2D } }
    },
    weight: (base, state, ctx) =>
      sum(base, lycorisDropped(ctx, options, true, scale(at(ctx.site).factor, hadamard(state)))),
  }
}
