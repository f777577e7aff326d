import type { Adapter, Site, Tensor2D } from '@weftjs/spec'
import { add, mul, type Tensor, type Tensor1D, zeros } from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'
import { patterned } from './peft/pattern.ts'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'

export interface LoraOptions {
  /** r */
  readonly rank?: number
  /** the update is scaled by α/r */
  readonly alpha?: number
  /** α/√r instead (rsLoRA, Kalajdzievski, arXiv:2312.03732) */
  readonly rslora?: boolean
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
  /** rank or α of sites whose name matches the pattern, a regular expression on the end of the name, as in PEFT */
  readonly rankPattern?: Readonly<Record<string, number>>
  readonly alphaPattern?: Readonly<Record<string, number>>
  /** distribution of A; PEFT's default is `kaiming` (uniform) */
  readonly init?: 'kaiming' | 'gaussian'
  /** a trained bias beside B·A, scaled with it (PEFT's `lora_bias`); such an adapter cannot be folded into a weight */
  readonly loraBias?: boolean
}
export interface LoraState extends Record<string, Tensor> {
  /** A [r, in] */
  a: Tensor2D
  /** B [out, r] */
  b: Tensor2D
}

/** numbers that train at a site: r·(in + out), and out more with a bias */
export const trainable = ({ in: n, out }: Site, { rank = 8, loraBias = false }: LoraOptions = {}): number =>
  rank * (n + out) + (loraBias ? out : 0)

/** rank that the options give a site, and the factor of its update */
export const loraScale = (options: LoraOptions): ((site: Site) => { rank: number; factor: number }) => {
  const { rank = 8, alpha = rank, rslora = false, rankPattern = {}, alphaPattern = {} } = options
  const ranks = patterned(rankPattern, 'lora: rankPattern')
  const alphas = patterned(alphaPattern, 'lora: alphaPattern')
  return ({ name, module }) => {
    const r = ranks(name, module) ?? rank
    return { rank: r, factor: (alphas(name, module) ?? alpha) / (rslora ? Math.sqrt(r) : r) }
  }
}

/** W + (α/r)·B·A, A random, B zero  —  Hu et al., arXiv:2106.09685 */
export const lora = (options: LoraOptions = {}): Adapter<LoraState> => {
  const { dropout = 0, init = 'kaiming', loraBias = false } = options
  mustBeChance('lora: dropout', dropout)
  if (!Number.isFinite(options.alpha ?? 1)) throw new Error(`lora: alpha must be a number, found ${options.alpha}`)
  const at = loraScale(options)
  return {
    name: 'lora',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const { rank: r } = at(site)
      if (!Number.isInteger(r) || r < 1)
        throw new Error(`${site.name}: rank must be a whole number of at least 1, found ${r}`)
      if (r > Math.min(out, input))
        throw new Error(`${site.name}: rank ${r} exceeds min(${out}, ${input}); lower rank or narrow "at"`)
      const a = // [r, in]
        site.kind === 'embed'
          ? rng.normal([r, input])
          : init === 'gaussian'
            ? rng.normal([r, input], 1 / r)
            : rng.uniform([r, input], -1 / Math.sqrt(input), 1 / Math.sqrt(input))
      const bias = loraBias && { bias: zeros([out]) as Tensor1D }
      return { state: { a: a as Tensor2D, b: zeros([out, r]) as Tensor2D, ...bias } }
    },
    weight: (base, { a, b }, ctx) => sum(base, scale(at(ctx.site).factor, droppedWhile(ctx, dropout, lowRank(b, a)))),
    ...(loraBias && { around: (next, x, { bias }, { site }) => add(next(x), mul(bias!, at(site).factor)) }),
  }
}
