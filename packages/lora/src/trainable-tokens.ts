import type { Adapter, Site, Tensor1D, Tensor2D, Weight } from '@weftjs/spec'
import {
  cast,
  concat,
  expandDims,
  gatherRows,
  greaterEqual,
  maximum,
  reshape,
  sub,
  type Tensor,
  tensor1d,
  transpose,
  where,
} from '@weftjs/tensor'
import { dense, lookup, rowsOf } from '@weftjs/weight'

export interface TrainableTokensOptions {
  /** whose rows of the embedding train */
  readonly tokens?: readonly number[]
}
export interface TrainableTokensState extends Record<string, Tensor> {
  /** the rows themselves [k, D]; of an embedding and a head that share a matrix they are common: `ctx.shared.rows` */
  rows: Tensor2D
  /** for each token its own number, or V + i where row i stands for it [V] int32; fixed */
  map: Tensor1D
}

/** numbers that train at a site: k·D */
export const trainable = ({ weight }: Site, { tokens = [0] }: TrainableTokensOptions = {}): number =>
  tokens.length * weight!.shape[1]

/** E with the rows of some tokens in place of its own */
const replaced = (base: Weight, rows: Tensor2D, map: Tensor1D): Weight => {
  const [V, D] = base.shape
  const whole = (): Tensor2D => gatherRows(concat([base.dense(), rows], 0), map) as Tensor2D
  return {
    shape: [V, D],
    format: 'rows',
    parts: { ...base.parts, rows, map },
    dense: whole,
    like: base.like,
    apply: (x) => {
      const y = concat([base.apply(x), dense(rows).apply(x)], -1) // [..., V + k]
      const turned = gatherRows(transpose(reshape(y, [-1, y.shape.at(-1)!])), map) // [V, N]
      return reshape(transpose(turned), [...x.shape.slice(0, -1), V])
    },
    rows: (index) => {
      const place = sub(reshape(lookup(expandDims(map, 1), index), index.shape), V) // ≥ 0 for tokens that train
      const mine = lookup(rows, cast(maximum(place, 0), 'int32')) // [..., D]
      return where(expandDims(greaterEqual(place, 0), -1), mine, rowsOf(base, index))
    },
  }
}

/** E with the rows of new or chosen tokens trained, the others as they are; a tied head sees the same  —  PEFT, Mangrulkar et al., 2022 */
export const trainableTokens = (options: TrainableTokensOptions = {}): Adapter<TrainableTokensState> => {
  const { tokens = [0] } = options
  if (!tokens.length || new Set(tokens).size !== tokens.length || tokens.some((t) => !Number.isInteger(t) || t < 0))
    throw new Error(`trainable-tokens: tokens must be different whole numbers, found ${JSON.stringify(tokens)}`)
  return {
    name: 'trainable-tokens',
    options: { ...options },
    init: (site, { sites, shared }) => {
      if (site.kind !== 'embed' && site.kind !== 'head')
        throw new Error(`${site.name} (${site.kind}): has no rows of tokens; put trainable-tokens on "embed"`)
      const [V] = site.weight!.shape
      const odd = tokens.find((t) => t >= V)
      if (odd !== undefined)
        throw new Error(`${site.name}: has ${V} tokens, and token ${odd} is to train; grow the vocabulary first`)
      const map = Int32Array.from({ length: V }, (_, i) => i)
      for (const [i, t] of tokens.entries()) map[t] = V + i
      const begin = (): Tensor2D => rowsOf(site.weight!, tensor1d([...tokens], 'int32')) as Tensor2D // [k, D]
      const tied = sites.some((s) => s !== site && s.weight === site.weight)
      if (tied) shared('rows', begin, { trains: true })
      const state = { map: tensor1d(map, 'int32'), ...(!tied && { rows: begin() }) }
      return { state: state as TrainableTokensState, trains: tied ? [] : ['rows'] }
    },
    weight: (base, { rows, map }, { shared }) => replaced(base, (rows ?? shared['rows']) as Tensor2D, map),
  }
}
