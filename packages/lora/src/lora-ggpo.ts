import type { Adapter, Site, Tensor2D, Weight } from '@weftjs/spec'
import {
  add,
  defineKernel,
  div,
  expandDims,
  linear,
  matMul,
  maximum,
  mul,
  reshape,
  sqrt,
  type Tensor,
  type Tensor1D,
  sum as total,
  zeros,
} from '@weftjs/tensor'
import { dense, sum } from '@weftjs/weight'
import { type LoraOptions, lora, loraScale, trainable as ofLora } from './lora.ts'
import { rowSquares, rowSquaresWith } from './shared/norms.ts'

export interface LoraGgpoOptions extends Omit<LoraOptions, 'loraBias'> {
  /** σ, size of the noise over that of a row of the weight */
  readonly sigma?: number
  /** β, how much a row's gradient counts beside the row itself */
  readonly beta?: number
}
export interface LoraGgpoState extends Record<string, Tensor> {
  /** A [r, in] */
  a: Tensor2D
  /** B [out, r] */
  b: Tensor2D
  /** standard deviation of the noise in each row [out], from the step before; zero at first */
  std: Tensor1D
}

/** numbers that train at a site: r·(in + out) */
export const trainable = (site: Site, options: LoraGgpoOptions = {}): number => ofLora(site, options)

/** x·εᵀ: the noise is drawn again for the gradient of x, and never kept */
const noisy = defineKernel<{ x: Tensor }, { noise: () => Tensor2D }>({
  name: 'NoisyMatMul',
  plain: ({ x }, { noise }) => linear(x, noise()),
  keeps: () => [],
  gradient: ({ dy, attrs, shapes }) => {
    const rows = reshape(dy, [-1, dy.shape.at(-1)!]) // [n, out]
    return { x: reshape(matMul(rows, attrs.noise()), [...shapes.x]) }
  },
})
const noiseWeight = (shape: readonly [number, number], noise: () => Tensor2D): Weight => ({
  shape,
  parts: {},
  apply: (x) => noisy({ x }, { noise }),
  dense: noise,
  like: dense,
})

/**
 * W' + ε while training, W' = W + (α/r)·B·A, εᵢⱼ ~ N(0, σ²·(‖W'ᵢ‖² + β·‖Gᵢ‖²)/in)  —  Chang et al., arXiv:2502.14538
 *
 * G, the last gradient of W', is put together from the factors, s·(B·gᴬ + gᴮ·A), without its full size; by the equations as a public implementation
 * cites them (kohya-ss/sd-scripts has std = (σ·‖Wᵢ‖ + β·‖Gᵢ‖²)/√out). A step draws in·out normal
 * numbers at each site, and again for the gradient of x rather than to keep them, and multiplies by them both times: on a
 * CPU five times LoRA's step.
 */
export const loraGgpo = (options: LoraGgpoOptions = {}): Adapter<LoraGgpoState> => {
  const { sigma = 0.03, beta = 0.01, ...rest } = options
  for (const [what, value] of Object.entries({ sigma, beta }))
    if (!(value >= 0 && Number.isFinite(value)))
      throw new Error(`lora-ggpo: ${what} must be at least 0, found ${value}`)
  const inner = lora(rest)
  const at = loraScale(rest)
  return {
    name: 'lora-ggpo',
    options: { ...options },
    init: (site, ctx) => {
      const { a, b } = inner.init(site, ctx)!.state
      return { state: { a: a!, b: b!, std: zeros([site.weight!.shape[0]]) as Tensor1D }, trains: ['a', 'b'] }
    },
    weight: (base, { a, b, std }, ctx) => {
      const adapted = inner.weight!(base, { a, b }, ctx)
      const { training, rng } = ctx
      if (!training || !rng || !sigma) return adapted
      const drawn = rng.fork('noise')
      const noise = (): Tensor2D => mul(expandDims(std, 1), drawn.fork('eps').normal([...base.shape])) as Tensor2D // [out, in]
      return sum(adapted, noiseWeight(base.shape, noise))
    },
    revise: (sites) =>
      Object.fromEntries(
        Object.entries(sites).map(([name, { site, state, grads }]) => {
          const { a, b } = state
          const { factor: s } = at(site)
          const ga = grads.a ?? mul(a, 0)
          const gb = grads.b ?? mul(b, 0)
          const rows = (x: Tensor, m: Tensor, y: Tensor): Tensor => total(mul(matMul(x, m), y), 1) // [out]
          const gram = (x: Tensor, y: Tensor): Tensor => matMul(x, y, false, true) // [r, r]
          const g = add(add(rows(b, gram(ga, ga), b), rows(gb, gram(a, a), gb)), mul(rows(b, gram(ga, a), gb), 2))
          const w = rowSquaresWith(site.weight!, rowSquares(site.weight!), b, a, s)
          const squares = maximum(add(w, mul(g, beta * s * s)), 0)
          return [name, { state: { std: mul(sqrt(div(squares, site.weight!.shape[1])), sigma) as Tensor1D } }]
        }),
      ),
  }
}
