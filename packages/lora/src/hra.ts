import type { Adapter, Site, Tensor2D } from '@weftjs/spec'
import { div, invert, matMul, mul, sqrt, square, sum, type Tensor, tensor2d, transpose } from '@weftjs/tensor'
import { inputSide } from './shared/output-side.ts'
import { kaiming, mustFit } from './shared/start.ts'

export interface HraOptions {
  /** r, the number of reflections; only an even number starts as W */
  readonly rank?: number
  /** reflect at all of them at once, orthogonalized: W·(I − 2·QQᵀ); such an adapter never starts as W */
  readonly orthogonal?: boolean
}
export interface HraState extends Record<string, Tensor> {
  /** a vector for each reflection, of any length [in, r] */
  u: Tensor2D
}

/** numbers that train at a site: r·in */
export const trainable = ({ in: n, out, kind }: Site, { rank = 8 }: HraOptions = {}): number =>
  rank * (kind === 'embed' ? out : n)

/** 1 above the diagonal, ½ on it [r, r] */
const halved = (r: number): Tensor2D =>
  tensor2d(
    Float32Array.from({ length: r * r }, (_, i) => (i % r > Math.floor(i / r) ? 1 : i % (r + 1) === 0 ? 0.5 : 0)),
    [r, r],
  )

/** W·H₁⋯Hᵣ, Hᵢ = I − 2uᵢuᵢᵀ/‖uᵢ‖², the u in equal pairs at the start  —  Yuan et al., arXiv:2405.17484 */
export const hra = (options: HraOptions = {}): Adapter<HraState> => {
  const { rank: r = 8, orthogonal = false } = options
  return {
    name: 'hra',
    options: { ...options },
    init: (site, { rng }) => {
      mustFit(site, r)
      const input = site.weight!.shape[1]
      const paired = r % 2 === 0 && !orthogonal
      const u = kaiming(rng, [input, paired ? r / 2 : r]) // [in, r/2]
      // each twice in turn: u₁ u₁ u₂ u₂ ...
      const twice = (): Tensor =>
        matMul(
          u,
          tensor2d(
            Float32Array.from({ length: (r * r) / 2 }, (_, i) => Number(Math.floor((i % r) / 2) === Math.floor(i / r))),
            [r / 2, r],
          ),
        )
      return { state: { u: (paired ? twice() : u) as Tensor2D } }
    },
    // H₁⋯Hᵣ = I − U·T·Uᵀ with a small triangular T (Schreiber & Van Loan, SIAM J. Sci. Stat. Comput. 10, 1989): two thin products
    weight: (base, { u }) => {
      const unit = div(u, sqrt(sum(square(u), 0))) // [in, r]
      const gram = matMul(unit, unit, true) // [r, r]
      // T⁻¹ = ½I + what is above the diagonal of UᵀU; all at once: I − 2·U(UᵀU)⁻¹Uᵀ, whatever the order of orthogonalization
      const t = orthogonal ? mul(2, invert(gram)) : invert(mul(gram, halved(r)))
      return inputSide(base, matMul(unit, t) as Tensor2D, transpose(unit) as Tensor2D, -1)
    },
  }
}
