import type { Adapter, Rng, Tensor2D, Weight } from '@weftjs/spec'
import { div, mul, type Tensor, zeros } from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'

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
}
export interface LoraState extends Record<string, Tensor> {
  /** A [r, in] */
  a: Tensor2D
  /** B [out, r] */
  b: Tensor2D
}

/** the entry of a PEFT pattern that names this site, by our name or by the module's */
const patterned = (
  patterns: Readonly<Record<string, number>>,
  names: readonly (string | undefined)[],
): number | undefined => {
  for (const [pattern, value] of Object.entries(patterns)) {
    const test = new RegExp(`^(?:.*\\.)?(?:${pattern})$`)
    if (names.some((n) => n !== undefined && test.test(n))) return value
  }
  return undefined
}

/** W + (α/r)·B·A, A random, B zero  —  Hu et al., arXiv:2106.09685 */
export const lora = (options: LoraOptions = {}): Adapter<LoraState> => {
  const {
    rank = 8,
    alpha = rank,
    rslora = false,
    dropout = 0,
    rankPattern = {},
    alphaPattern = {},
    init = 'kaiming',
  } = options
  if (!(dropout >= 0 && dropout < 1)) throw new Error(`lora: dropout must be in [0, 1), found ${dropout}`)
  return {
    name: 'lora',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const r = patterned(rankPattern, [site.name, site.module]) ?? rank
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
      return { state: { a: a as Tensor2D, b: zeros([out, r]) as Tensor2D } }
    },
    weight: (base, { a, b }, { site, training, rng }) => {
      const r = a.shape[0]
      const scaled = (patterned(alphaPattern, [site.name, site.module]) ?? alpha) / (rslora ? Math.sqrt(r) : r)
      const delta = lowRank(b, a)
      return sum(base, scale(scaled, training && dropout && rng ? dropped(delta, dropout, rng) : delta))
    },
  }
}

/** each input of w is zero with chance p, and the rest 1/(1−p) times as large */
const dropped = (w: Weight, p: number, rng: Rng): Weight => ({
  ...w,
  apply: (x) => w.apply(mul(x, div(rng.bernoulli(x.shape, 1 - p), 1 - p))),
})
