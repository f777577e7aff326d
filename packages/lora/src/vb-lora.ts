import type { Adapter, RunContext, Site, Tensor2D, Tensor3D } from '@weftjs/spec'
import {
  cast,
  concat,
  gatherRows,
  greater,
  matMul,
  mul,
  reshape,
  slice,
  softmax,
  sub,
  type Tensor,
  topk,
  sum as total,
  transpose,
  where,
} from '@weftjs/tensor'
import { lowRank, sum } from '@weftjs/weight'
import { best } from './shared/best.ts'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { mustBeWhole, mustFit } from './shared/start.ts'

export interface VbLoraOptions {
  /** r */
  readonly rank?: number
  /** h vectors in the bank, each of so many numbers; their length divides both sides of every matrix */
  readonly vectors?: number
  readonly length?: number
  /** k vectors are mixed for each piece of A and B */
  readonly top?: number
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
  /** the bank is U(±bound) at first, the logits are N(0, std) */
  readonly bound?: number
  readonly std?: number
  /** in place of logits the weights and places of the k best, fixed (PEFT's `save_only_topk_weights`): small, and done with training */
  readonly compact?: boolean
}
export interface VbLoraState extends Record<string, Tensor> {
  /** logits of A [r, in/length, h]; where it is compact all but the last weight of each piece [r, in/length, k−1] */
  a: Tensor3D
  /** of B [out/length, r, h] */
  b: Tensor3D
  /** of a compact one: which vectors [r, in/length, k], [out/length, r, k] int32 */
  aPlaces: Tensor3D
  bPlaces: Tensor3D
}

/** numbers that train at a site: r·h·(in + out)/length; the bank's h·length are common to all */
export const trainable = ({ weight }: Site, { rank = 4, vectors = 256, length = 256 }: VbLoraOptions = {}): number =>
  (rank * vectors * (weight!.shape[0] + weight!.shape[1])) / length

/** softmax over the k largest of the last axis, zero elsewhere: [..., h] → [..., h] */
const admixture = (logits: Tensor, k: number): Tensor => softmax(where(greater(best(logits, k), 0), logits, -1e30))

/** what a compact adapter keeps of logits [..., h]: weights [..., k−1], since they sum to one, and places [..., k] */
export const compacted = (logits: Tensor, k: number): { weights: Tensor; places: Tensor } => {
  const { values, indices } = topk(logits, k)
  const lead = logits.shape.slice(0, -1)
  const weights = slice(softmax(values as Tensor), lead.map(() => 0).concat(0), [...lead, k - 1])
  return { weights, places: cast(indices as Tensor, 'int32') }
}
/** [..., k−1] and [..., k] → the mixed pieces [M, length] */
const gathered = (weights: Tensor, places: Tensor, bank: Tensor): Tensor => {
  const k = places.shape.at(-1)!
  const w = concat([weights, sub(1, total(weights, -1, true))], -1)
  const rows = reshape(gatherRows(bank, reshape(places, [-1])), [-1, k, bank.shape[1]!])
  return total(mul(rows, reshape(w, [-1, k, 1])), 1)
}

/** W + B·A of pieces, each mixed of the k best of one bank: piece = Σ softmax(top k)·v  —  Li et al., arXiv:2405.15179 */
export const vbLora = (options: VbLoraOptions = {}): Adapter<VbLoraState> => {
  const {
    rank = 4,
    vectors = 256,
    length = 256,
    top = 2,
    dropout = 0,
    bound = 0.02,
    std = 0.1,
    compact = false,
  } = options
  mustBeChance('vb-lora: dropout', dropout)
  mustBeWhole('vb-lora', 'vectors', vectors)
  mustBeWhole('vb-lora', 'length', length)
  mustBeWhole('vb-lora', 'top', top)
  if (top > vectors) throw new Error(`vb-lora: top ${top} exceeds the ${vectors} vectors of the bank; lower it`)
  const pieces = (logits: Tensor, places: Tensor | undefined, { shared: { bank } }: RunContext): Tensor =>
    places ? gathered(logits, places, bank!) : matMul(reshape(admixture(logits, top), [-1, vectors]), bank!)
  return {
    name: 'vb-lora',
    options: { ...options },
    init: (site, { rng, shared }) => {
      const [out, input] = site.weight!.shape
      mustFit(site, rank)
      if (out % length || input % length)
        throw new Error(
          `${site.name}: length ${length} does not divide ${out} and ${input}; take a common divisor of them`,
        )
      shared('bank', (r) => r.uniform([vectors, length], -bound, bound), { trains: true }) // [h, length]
      const a = rng.fork('a').normal([rank, input / length, vectors], std) as Tensor3D
      const b = rng.fork('b').normal([out / length, rank, vectors], std) as Tensor3D
      if (!compact) return { state: { a, b } as VbLoraState }
      const [first, second] = [compacted(a, top), compacted(b, top)]
      const places = { aPlaces: first.places, bPlaces: second.places }
      return { state: { a: first.weights, b: second.weights, ...places } as VbLoraState, trains: [] }
    },
    weight: (base, { a, b, aPlaces, bPlaces }, ctx) => {
      const [out, input] = base.shape
      const A = reshape(pieces(a, aPlaces, ctx), [rank, input]) as Tensor2D // [r, in]
      const B = reshape(transpose(reshape(pieces(b, bPlaces, ctx), [out / length, rank, length]), [0, 2, 1]), [
        out,
        rank,
      ]) as Tensor2D
      return sum(base, droppedWhile(ctx, dropout, lowRank(B, A)))
    },
  }
}
