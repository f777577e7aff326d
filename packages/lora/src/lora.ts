import type { Adapter, Rng, Site, Tensor2D } from '@weftjs/spec'
import { add, matMul, mul, type Tensor, type Tensor1D, tensor2d, zeros } from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { patterned } from './shared/pattern.ts'
import { kaiming, mustBeWhole, mustFit } from './shared/start.ts'

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
  /** distribution of A; PEFT's default is `kaiming` (uniform). `orthogonal`: neither A nor B is zero, and B·A is */
  readonly init?: 'kaiming' | 'gaussian' | 'orthogonal'
  /** a rank may be above min(in, out), as in PEFT: more numbers train than the matrix has */
  readonly anyRank?: boolean
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
  const { dropout = 0, init = 'kaiming', loraBias = false, anyRank = false } = options
  mustBeChance('lora: dropout', dropout)
  if (!Number.isFinite(options.alpha ?? 1)) throw new Error(`lora: alpha must be a number, found ${options.alpha}`)
  const at = loraScale(options)
  return {
    name: 'lora',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const { rank: r } = at(site)
      if (anyRank) mustBeWhole(site.name, 'rank', r)
      else mustFit(site, r)
      const bias = loraBias && { bias: zeros([out]) as Tensor1D }
      if (init === 'orthogonal') return { state: { ...orthogonal(site, r, rng), ...bias } }
      const a = // [r, in]
        site.kind === 'embed'
          ? rng.normal([r, input])
          : init === 'gaussian'
            ? rng.normal([r, input], 1 / r)
            : kaiming(rng, [r, input])
      return { state: { a: a as Tensor2D, b: zeros([out, r]) as Tensor2D, ...bias } }
    },
    weight: (base, { a, b }, ctx) => sum(base, scale(at(ctx.site).factor, droppedWhile(ctx, dropout, lowRank(b, a)))),
    ...(loraBias && { around: (next, x, { bias }, { site }) => add(next(x), mul(bias!, at(site).factor)) }),
  }
}

/** A from odd rows and B from even rows of one orthogonal matrix, so that B·A = 0  —  as PEFT's `orthogonal` */
const orthogonal = ({ name, weight }: Site, r: number, rng: Rng): { a: Tensor2D; b: Tensor2D } => {
  if (r % 2) throw new Error(`${name}: an orthogonal start takes an even rank, found ${r}`)
  const [out, input] = weight!.shape
  const q = orthonormal(rng.fork('q').numbers(r * r), r)
  const rows = (first: number): Tensor2D =>
    tensor2d(
      q.filter((_, i) => i % 2 === first),
      [r / 2, r],
    )
  return {
    a: mul(matMul(rows(0), rng.fork('a').normal([r / 2, input]), true), 0.1) as Tensor2D, // [r, in]
    b: mul(matMul(rng.fork('b').normal([out, r / 2]), rows(1)), 0.1) as Tensor2D, // [out, r]
  }
}

/** r orthonormal rows from r² numbers in [0, 1), by Gram and Schmidt, each row cleared twice of those before it */
const orthonormal = (numbers: Float64Array, r: number): number[][] => {
  const rows: number[][] = []
  for (let i = 0; i < r; i++) {
    let row = Array.from(numbers.subarray(i * r, (i + 1) * r), (u) => u - 0.5)
    for (const q of [...rows, ...rows]) {
      const along = q.reduce((n, v, j) => n + v * row[j]!, 0)
      row = row.map((v, j) => v - along * q[j]!)
    }
    const length = Math.hypot(...row)
    rows.push(row.map((v) => v / length))
  }
  return rows
}
