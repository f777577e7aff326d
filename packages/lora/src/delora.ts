import type { Adapter, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { div, expandDims, maximum, mul, ones, sqrt, square, type Tensor, sum as total, zeros } from '@weftjs/tensor'
import { lowRank, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { patterned } from './shared/pattern.ts'
import { kaiming, mustBeNumber, mustFit } from './shared/start.ts'

export interface DeloraOptions {
  /** r */
  readonly rank?: number
  /** λ at first: how far from W the update may go */
  readonly lambda?: number
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
  /** rank or λ of sites whose name matches the pattern */
  readonly rankPattern?: Readonly<Record<string, number>>
  readonly lambdaPattern?: Readonly<Record<string, number>>
}
export interface DeloraState extends Record<string, Tensor> {
  /** A [r, in] */
  a: Tensor2D
  /** B [out, r], zero at first */
  b: Tensor2D
  /** λ [1] */
  lambda: Tensor1D
  /** ‖W‖ by columns [in], fixed */
  norm: Tensor1D
}

const rankOf = ({ rank = 8, rankPattern = {} }: DeloraOptions): ((site: Site) => number) => {
  const find = patterned(rankPattern, 'delora: rankPattern')
  return ({ name, module }) => find(name, module) ?? rank
}

/** numbers that train at a site: r·(in + out) + 1 */
export const trainable = (site: Site, options: DeloraOptions = {}): number =>
  rankOf(options)(site) * (site.in + site.out) + 1

/** max(‖·‖, 10⁻⁴) along an axis */
const length = (t: Tensor, axis: number): Tensor => sqrt(maximum(total(square(t), axis), 1e-8))

/** W + (λ/r)·Σᵢ bᵢ·aᵢ/(‖bᵢ‖‖aᵢ‖)·diag(‖W‖), norms of columns: angle and strength part  —  Bini et al., arXiv:2503.18225 */
export const delora = (options: DeloraOptions = {}): Adapter<DeloraState> => {
  const { lambda = 15, dropout = 0 } = options
  mustBeChance('delora: dropout', dropout)
  mustBeNumber('delora: lambda', lambda)
  const ranks = rankOf(options)
  const lambdas = patterned(options.lambdaPattern ?? {}, 'delora: lambdaPattern')
  return {
    name: 'delora',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const r = ranks(site)
      mustFit(site, r)
      const strength = lambdas(site.name, site.module) ?? lambda
      return {
        state: {
          a: kaiming(rng, [r, input]) as Tensor2D,
          b: zeros([out, r]) as Tensor2D,
          lambda: mul(ones([1]), strength) as Tensor1D,
          norm: sqrt(total(square(site.weight!.dense()), 0)) as Tensor1D, // [in]
        },
        trains: ['a', 'b', 'lambda'],
      }
    },
    weight: (base, { a, b, lambda, norm }, ctx) => {
      const s = div(div(lambda, a.shape[0]), mul(length(a, 1), length(b, 0))) // [r]
      const delta = lowRank(b, mul(mul(a, expandDims(s, 1)), norm) as Tensor2D)
      return sum(base, droppedWhile(ctx, dropout, delta))
    },
  }
}
