import type { Adapter, InitContext, Site, Tensor, Tensor2D } from '@weftjs/spec'
import { reshape, zeros } from '@weftjs/tensor'
import {
  eigh,
  fromMatrix,
  type Matrix,
  matrix,
  multiply,
  randomizedSvd,
  toMatrix,
  transpose,
} from '@weftjs/tensor/linalg'
import { lowRank, scale, sum } from '@weftjs/weight'
import { type LoraOptions, type LoraState, lora, loraScale } from './lora.ts'
import { droppedWhile } from './shared/dropped.ts'
import { columns } from './shared/residual.ts'
import { mustBeWhole } from './shared/start.ts'

export interface EvaOptions extends Omit<LoraOptions, 'init' | 'loraBias'> {
  /** ρ: a site may have up to ρ·rank; 1 leaves the ranks as they are */
  readonly rho?: number
  /** rows of A over √s, s the singular values of the inputs (the paper: for images) */
  readonly whiten?: boolean
  /** every site is scaled by α/rank, whatever rank it was given; otherwise by α over its own */
  readonly adjust?: boolean
}
export type EvaState = LoraState

/** numbers that train at a site: r·(in + out); with ρ above 1 sites are given other ranks, of the same sum */
export const trainable = ({ in: n, out }: Site, { rank = 8 }: EvaOptions = {}): number => rank * (n + out)

/** principal directions of an input [in, c], their variances, and the share of all variance that each has */
interface Principal {
  readonly v: Matrix
  readonly variances: Float64Array
  readonly shares: Float64Array
}

/** from E[x] and E[x·xᵀ]: PCA of all rows at once, with no batch seen twice */
const principal = ({ seen, rng }: InitContext, site: Site, count: number): Principal => {
  const moment = toMatrix(seen(site).get('moment') as Tensor2D)
  const mean = toMatrix(reshape(seen(site).get('mean'), [1, -1]) as Tensor2D).data
  const n = moment.rows
  const c = matrix(n, n) // [in, in]
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) c.data[i * n + j] = moment.data[i * n + j]! - mean[i]! * mean[j]!
  let trace = 0
  for (let i = 0; i < n; i++) trace += c.data[i * n + i]!
  if (!(trace > 0 && Number.isFinite(trace)))
    throw new Error(`${site.name}: its inputs do not vary; calibrate on other data`)
  if (n > 256) {
    // symmetric, so that no transpose is made
    const times = (x: Matrix): Matrix => multiply(c, x)
    const whole = { rows: n, cols: n, times, transposedTimes: times }
    const { v, s } = randomizedSvd(whole, count, { rng, iterations: 4 })
    return { v, variances: s, shares: s.map((x) => x / trace) }
  }
  const { values, vectors } = eigh(c)
  const falling = [...values.keys()].sort((i, j) => values[j]! - values[i]!).slice(0, count)
  const v = matrix(n, count)
  for (const [k, j] of falling.entries()) for (let i = 0; i < n; i++) v.data[i * count + k] = vectors.data[i * n + j]!
  const variances = Float64Array.from(falling, (j) => Math.max(values[j]!, 0))
  return { v, variances, shares: variances.map((x) => x / trace) }
}

/** factor of the update at a site that has won a rank: α/r stays where α grows with the rank */
export const evaFactor = (options: EvaOptions): ((site: Site, rank: number) => number) => {
  const { adjust = true, rslora = false } = options
  const at = loraScale(options)
  return (site, won) => {
    const { rank, factor } = at(site)
    return factor * (adjust ? won / rank : 1) * (rank / won) ** (rslora ? 0.5 : 1)
  }
}

interface Plan {
  readonly ranks: ReadonlyMap<string, number>
  readonly inputs: ReadonlyMap<string, Principal>
}

/** The Σ r directions that explain most of their own input, whichever site they are of. */
const plan = (ctx: InitContext, rankOf: (site: Site) => number, rho: number): Plan => {
  const { sites, seen } = ctx
  const most = new Map<Tensor, number>()
  const own = (site: Site): Tensor => seen(site).get('moment')
  for (const site of sites) {
    const [out, input] = site.weight!.shape
    mustBeWhole(site.name, 'rank', rankOf(site))
    if (rankOf(site) > Math.min(out, input))
      throw new Error(`${site.name}: rank ${rankOf(site)} exceeds min(${out}, ${input}); lower rank or narrow "at"`)
    const count = Math.min(input, Math.round(rankOf(site) * rho))
    if (seen(site).rows <= count)
      throw new Error(
        `${site.name}: ${seen(site).rows} rows are too few for ${count} directions; calibrate on more data, or lower rank or rho`,
      )
    most.set(own(site), Math.max(most.get(own(site)) ?? 0, count))
  }
  const found = new Map<Tensor, Principal>()
  for (const site of sites) if (!found.has(own(site))) found.set(own(site), principal(ctx, site, most.get(own(site))!))
  const pool = sites.flatMap((site) => {
    const { shares } = found.get(own(site))!
    const top = Math.min(Math.round(rankOf(site) * rho), ...site.weight!.shape)
    return Array.from(shares.subarray(0, top), (share) => ({ site, share }))
  })
  const budget = sites.reduce((n, site) => n + rankOf(site), 0)
  const ranks = new Map<string, number>(sites.map((s) => [s.name, 0]))
  for (const { site } of pool.sort((x, y) => y.share - x.share).slice(0, budget))
    ranks.set(site.name, ranks.get(site.name)! + 1)
  return { ranks, inputs: new Map(sites.map((s) => [s.name, found.get(own(s))!])) }
}

/**
 * LoRA with A the principal directions of a site's inputs, ranks where they explain most  —  Paischer et al., arXiv:2410.07170
 *
 * The PCA is exact, from sums over the calibration data, where the paper's is incremental over batches until it settles. A site
 * that wins no direction is left alone. Ranks may be several times r where inputs vary most, and a step takes as much longer. Sites with one input (q, k, v) share its directions, and win ties in their order.
 */
export const eva = (options: EvaOptions = {}): Adapter<EvaState> => {
  const { rho = 2, whiten = false, adjust: _, ...rest } = options
  if (!(rho >= 1 && Number.isFinite(rho))) throw new Error(`eva: rho must be at least 1, found ${rho}`)
  const at = loraScale(rest)
  const { dropout = 0 } = rest
  const factor = evaFactor(options)
  return {
    ...lora(rest),
    name: 'eva',
    options: { ...options },
    calibrates: ['mean', 'moment'],
    init: (site, ctx) => {
      const { ranks, inputs } = ctx.once('plan', () => plan(ctx, (s) => at(s).rank, rho))
      const rank = ranks.get(site.name)!
      if (!rank) return undefined
      const { v, variances } = inputs.get(site.name)!
      const a = columns(v, 0, rank) // [in, r]
      const n = ctx.seen().rows
      if (whiten) for (let i = 0; i < a.data.length; i++) a.data[i]! /= Math.sqrt(Math.sqrt(n * variances[i % rank]!))
      return { state: { a: fromMatrix(transpose(a)), b: zeros([site.weight!.shape[0], rank]) as Tensor2D } }
    },
    weight: (base, { a, b }, ctx) =>
      sum(base, scale(factor(ctx.site, a.shape[0]), droppedWhile(ctx, dropout, lowRank(b, a)))),
  }
}
