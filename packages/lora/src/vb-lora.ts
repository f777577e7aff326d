import type { Adapter, RunContext, Site, Tensor2D, Tensor3D } from '@weftjs/spec'
import { greater, matMul, reshape, softmax, type Tensor, transpose, where } from '@weftjs/tensor'
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
  /** a saved file holds the k weights of each piece alone (PEFT's `save_only_topk_weights`): small, and not to be trained on */
  readonly compact?: boolean
}
export interface VbLoraState extends Record<string, Tensor> {
  /** logits of A [r, in/length, h] */
  a: Tensor3D
  /** of B [out/length, r, h] */
  b: Tensor3D
}

/** numbers that train at a site: r·h·(in + out)/length; the bank's h·length are common to all */
export const trainable = ({ weight }: Site, { rank = 4, vectors = 256, length = 256 }: VbLoraOptions = {}): number =>
  (rank * vectors * (weight!.shape[0] + weight!.shape[1])) / length

/** softmax over the k largest of the last axis, zero elsewhere: [..., h] → [..., h] */
const admixture = (logits: Tensor, k: number): Tensor => softmax(where(greater(best(logits, k), 0), logits, -1e30))

/** W + B·A of pieces, each mixed of the k best of one bank: piece = Σ softmax(top k)·v  —  Li et al., arXiv:2405.15179 */
export const vbLora = (options: VbLoraOptions = {}): Adapter<VbLoraState> => {
  const { rank = 4, vectors = 256, length = 256, top = 2, dropout = 0, bound = 0.02, std = 0.1 } = options
  mustBeChance('vb-lora: dropout', dropout)
  mustBeWhole('vb-lora', 'vectors', vectors)
  mustBeWhole('vb-lora', 'length', length)
  mustBeWhole('vb-lora', 'top', top)
  if (top > vectors) throw new Error(`vb-lora: top ${top} exceeds the ${vectors} vectors of the bank; lower it`)
  const pieces = (logits: Tensor, { shared }: RunContext): Tensor =>
    matMul(reshape(admixture(logits, top), [-1, vectors]), shared['bank']!)
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
      return {
        state: {
          a: rng.fork('a').normal([rank, input / length, vectors], std) as Tensor3D,
          b: rng.fork('b').normal([out / length, rank, vectors], std) as Tensor3D,
        },
      }
    },
    weight: (base, { a, b }, ctx) => {
      const [out, input] = base.shape
      const A = reshape(pieces(a, ctx), [rank, input]) as Tensor2D // [r, in]
      const B = reshape(transpose(reshape(pieces(b, ctx), [out / length, rank, length]), [0, 2, 1]), [
        out,
        rank,
      ]) as Tensor2D
      return sum(base, droppedWhile(ctx, dropout, lowRank(B, A)))
    },
  }
}
