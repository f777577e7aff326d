import type { Adapter, Scalar, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { add, div, eye, matMul, mul, scalar, sqrt, square, sub, type Tensor, sum as total } from '@weftjs/tensor'
import { eigh, type Factors, fromMatrix, gram, type Matrix, multiply, toMatrix, transpose } from '@weftjs/tensor/linalg'
import { lowRank, scale, sum } from '@weftjs/weight'
import { type LoraOptions, lora, loraScale } from './lora.ts'
import { droppedWhile } from './shared/dropped.ts'
import { columns, residual } from './shared/residual.ts'

export interface KasaOptions extends Omit<LoraOptions, 'init' | 'loraBias'> {
  /** weight of Σ d² in the loss */
  readonly beta?: number
  /** weight of ‖A·Aᵀ − I‖ + ‖Bᵀ·B − I‖ in the loss */
  readonly gamma?: number
}
export interface KasaState extends Record<string, Tensor> {
  /** A [r, in] */
  a: Tensor2D
  /** B [out, r] */
  b: Tensor2D
  /** d, singular values of the update [r] */
  d: Tensor1D
}

/** numbers that train at a site: r·(in + out + 1) */
export const trainable = ({ in: n, out }: Site, { rank = 8 }: KasaOptions = {}): number => rank * (n + out + 1)

/** ‖m − I‖ of a Gram matrix m [r, r]; not zero, so that its gradient is finite where the norm is zero */
const awry = (m: Tensor): Tensor => sqrt(add(total(square(sub(m, eye(m.shape[0]!)))), 1e-12))

/**
 * The r smallest singular components of W as b·a: W on the r least eigenvectors of WᵀW or W·Wᵀ, whichever is smaller. In double
 * precision those are mistaken for one another below 1.5·10⁻⁸ of the largest singular value, less than W in single precision tells.
 */
const least = (w: Matrix, r: number): Factors => {
  const tall = w.rows >= w.cols
  const e = columns(eigh(gram(w, tall ? 'columns' : 'rows')).vectors, 0, r) // rising values
  return tall
    ? { b: fromMatrix(multiply(w, e)), a: fromMatrix(transpose(e)) }
    : { b: fromMatrix(e), a: fromMatrix(multiply(transpose(e), w)) }
}

/**
 * W_world + (α/r)·B·diag(d)·A, W_world = W without its r smallest singular components  —  Wang et al., arXiv:2412.06071
 *
 * The loss gains the mean over sites of β·Σ d² + γ·(‖A·Aᵀ − I‖ + ‖Bᵀ·B − I‖) while training (PEFT sums over sites and leaves it
 * to its user). The authors' Gram matrix of A is [in, in], which adds a constant; and they keep in − r components, which drops
 * none where in − r ≥ out. All eigenvectors of a Gram matrix are found for the least: half the time of the whole SVD. What a
 * step takes beyond LoRA's, half of it for small batches, is those penalties: without them (β = γ = 0) it takes LoRA's time.
 */
export const kasa = (options: KasaOptions = {}): Adapter<KasaState> => {
  const { beta = 1e-4, gamma = 1e-3, ...given } = options
  const rest = { ...given, alpha: given.alpha ?? 2 * (given.rank ?? 8) }
  for (const [what, value] of Object.entries({ beta, gamma }))
    if (!(value >= 0 && Number.isFinite(value))) throw new Error(`kasa: ${what} must be at least 0, found ${value}`)
  const inner = lora(rest)
  const at = loraScale(rest)
  return {
    name: 'kasa',
    options: { ...options, alpha: rest.alpha },
    init: (site, ctx) => {
      const { rank } = at(site)
      const { a, b } = inner.init(site, ctx)!.state
      const [out, input] = site.weight!.shape
      const k = Math.min(out, input)
      if (rank >= k)
        throw new Error(`${site.name}: rank ${rank} leaves nothing of min(${out}, ${input}) components; lower rank`)
      const dropped = least(toMatrix(site.weight!.dense()), rank)
      ctx.shared('sites', () => scalar(ctx.sites.length))
      const d = ctx.rng.fork('d').normal([rank]) as Tensor1D // [r]
      return { state: { a: a!, b: b!, d }, base: residual(site.weight!, dropped, 1) }
    },
    weight: (base, { a, b, d }, ctx) => {
      if (ctx.training && (beta || gamma)) {
        const grams = add(awry(matMul(a, a, false, true)), awry(matMul(b, b, true))) // [r, r] each
        const term = add(mul(total(square(d)), beta), mul(grams, gamma))
        ctx.penalty(div(term, ctx.shared['sites'] ?? 1) as Scalar)
      }
      return sum(
        base,
        scale(at(ctx.site).factor, droppedWhile(ctx, rest.dropout ?? 0, lowRank(mul(b, d) as Tensor2D, a))),
      )
    },
  }
}
