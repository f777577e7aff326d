import type { Adapter, Site, Tensor2D } from '@weftjs/spec'
import { div, maximum, sqrt, square, sum, type Tensor, type Tensor1D, untaped } from '@weftjs/tensor'
import { scaleColumns, scaleRows } from '@weftjs/weight'
import { type LoraOptions, lora, loraScale, trainable as ofLora } from './lora.ts'
import { rowSquares, rowSquaresWith } from './shared/norms.ts'

export type DoraOptions = Omit<LoraOptions, 'loraBias'>
export interface DoraState extends Record<string, Tensor> {
  /** A [r, in] */
  a: Tensor2D
  /** B [out, r] */
  b: Tensor2D
  /** m, length of each row of the weight [out]; of each column [in] at an embedding, whose columns are its outputs */
  m: Tensor1D
  /** ‖Wᵢ‖² of the frozen weight, so that no step reads all of it for its lengths */
  n: Tensor1D
}

/** numbers that train at a site: r·(in + out) and a length for each output */
export const trainable = (site: Site, options: DoraOptions = {}): number => ofLora(site, options) + site.out

/**
 * m ⊙ V/‖V‖ᵣₒᵥ, V = W + (α/r)·B·A, the norms held constant in the gradient  —  Liu et al., arXiv:2402.09353
 *
 * The norms are found from ‖W‖², B·(A·Wᵀ) and A·Aᵀ: one product of r rows with W more than LoRA's step. While training, dropout
 * acts on what goes into A only, as in LoRA (PEFT drops what a part of W reads as well).
 */
export const dora = (options: DoraOptions = {}): Adapter<DoraState> => {
  const inner = lora(options)
  const at = loraScale(options)
  const isEmbed = (site: Site): boolean => site.kind === 'embed'
  return {
    name: 'dora',
    options: { ...options },
    init: (site, ctx) => {
      const { a, b } = inner.init(site, ctx)!.state
      const n = (isEmbed(site) ? sum(square(site.weight!.dense()), 0) : rowSquares(site.weight!)) as Tensor1D
      return { state: { a: a!, b: b!, m: sqrt(n), n }, trains: ['a', 'b', 'm'] }
    },
    weight: (base, { a, b, m, n }, ctx) => {
      const v = inner.weight!(base, { a, b }, ctx)
      const norms = untaped(() => {
        if (isEmbed(ctx.site)) return sqrt(sum(square(v.dense()), 0)) // [in]
        const own = base === ctx.site.weight ? n : rowSquares(base) // another adapter may stand below
        return sqrt(maximum(rowSquaresWith(base, own, b, a, at(ctx.site).factor), 0)) // [out]
      })
      return (isEmbed(ctx.site) ? scaleColumns : scaleRows)(div(m, maximum(norms, 1e-12)), v)
    },
  }
}
