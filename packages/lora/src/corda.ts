import type { Adapter, InitContext, Site, Tensor2D } from '@weftjs/spec'
import {
  asMatrix,
  cholesky,
  choleskySolve,
  type Matrix,
  matrix,
  multiply,
  type Product,
  type Svd,
  svd,
  toMatrix,
  transpose,
} from '@weftjs/tensor/linalg'
import { type LoraOptions, type LoraState, lora, loraScale } from './lora.ts'
import { columns, factorsOf, mustBePositive, residual, topTriples } from './shared/residual.ts'
import { mustFit } from './shared/start.ts'

export interface CordaOptions extends Omit<LoraOptions, 'init' | 'loraBias'> {
  /** `ipm`, to learn what the data shows: its largest components train. `kpm`, to keep what it shows: the smallest do */
  readonly mode?: 'ipm' | 'kpm'
  /** λ, doubled until C + λ·mean(diag C)·I can be inverted */
  readonly damping?: number
  /** for `ipm`: power iterations of a randomized SVD, 0 for the whole; by default that of matrices up to 128, 2 for larger ones */
  readonly niter?: number
}
export type CordaState = LoraState

/** numbers that train at a site: r·(in + out) */
export const trainable = ({ in: n, out }: Site, { rank = 8 }: CordaOptions = {}): number => rank * (n + out)

/** C + λ·mean(diag C)·I and its Cholesky factor, with the first λ, 2λ, 4λ, ... for which C'·C'⁻¹ is I to 5 % in all */
const damped = (name: string, c: Matrix, damping: number): Damped => {
  const n = c.rows
  let trace = 0
  for (let i = 0; i < n; i++) trace += c.data[i * n + i]!
  if (!(trace > 0 && Number.isFinite(trace)))
    throw new Error(`${name}: its inputs are ${trace === 0 ? 'all zero' : 'not finite'}; calibrate on other data`)
  for (let lambda = damping, i = 0; i < 30; lambda = (lambda || 1e-6) * 2, i++) {
    const c1 = matrix(n, n, c.data.slice())
    for (let j = 0; j < n; j++) c1.data[j * n + j]! += (lambda * trace) / n
    try {
      const l = cholesky(c1)
      // one vector tells: C'·(C'⁻¹·1) − 1
      const ones = matrix(n, 1, new Float64Array(n).fill(1))
      const again = multiply(c1, choleskySolve(l, ones))
      if (Math.hypot(...again.data.map((x) => x - 1)) < 0.05) return { c: c1, l }
    } catch {
      // not positive definite to rounding: a larger λ will do
    }
  }
  throw new Error(`${name}: the covariance of its inputs cannot be inverted; calibrate on more data`)
}

interface Damped {
  readonly c: Matrix
  readonly l: Matrix
}
/** of the input of a site; sites that read the same one after another share what was found */
const dampedOf = ({ name }: Site, { once, seen }: InitContext, damping: number): Damped => {
  const last = once<{ of?: Tensor2D; found?: Damped }>('damped', () => ({}))
  const scaled = seen().get('scaled') as Tensor2D
  if (last.of !== scaled) {
    last.found = damped(name, toMatrix(scaled), damping)
    last.of = scaled
  }
  return last.found!
}

/** W·C, which is made for a whole SVD only */
const weighed = (w: Matrix, c: Matrix): Product => ({
  rows: w.rows,
  cols: w.cols,
  times: (x) => multiply(w, multiply(c, x)),
  transposedTimes: (x) => multiply(c, transpose(multiply(transpose(x), w))),
})

/**
 * W = W_res + (α/r)·B·A, B·A r components of W = U·S·(Vᵀ·C⁻¹), where U·S·Vᵀ = svd(W·C)  —  Yang et al., arXiv:2406.05223
 *
 * C = E[XᵀX] over batches X of inputs, each over its largest entry (in PEFT over its largest positive one). With C = I and `ipm` this is PiSSA. `kpm` needs the whole SVD, a minute for a large model without a system LAPACK.
 */
export const corda = (options: CordaOptions = {}): Adapter<CordaState> => {
  const { mode = 'ipm', damping = 0.01, niter, ...rest } = options
  if (mode !== 'ipm' && mode !== 'kpm') throw new Error(`corda: mode must be 'ipm' or 'kpm', found '${mode}'`)
  if (!(damping >= 0 && Number.isFinite(damping)))
    throw new Error(`corda: damping must be at least 0, found ${damping}`)
  const at = loraScale(rest)
  return {
    ...lora(rest),
    name: 'corda',
    options: { ...options },
    calibrates: ['scaled'],
    init: (site, ctx) => {
      const { rank, factor } = at(site)
      mustFit(site, rank)
      mustBePositive(`${site.name}: alpha`, factor)
      const { c, l } = dampedOf(site, ctx, damping)
      const w = toMatrix(site.weight!.dense()) // [out, in]
      const product = weighed(w, c)
      const found = mode === 'ipm' ? topTriples(product, rank, ctx.rng, niter) : svd(asMatrix(product))
      const first = mode === 'ipm' ? 0 : found.s.length - rank
      const part = (m: Matrix): Matrix => columns(m, first, first + rank)
      const chosen: Svd = {
        u: part(found.u), // [out, r]
        s: found.s.slice(first, first + rank),
        v: choleskySolve(l, part(found.v)), // C⁻¹·V [in, r]
      }
      const state = factorsOf(chosen, factor, 0, rank)
      return { state: { ...state }, base: residual(site.weight!, state, factor) }
    },
  }
}
