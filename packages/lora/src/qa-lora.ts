import type { Adapter, Site, Tensor2D, Weight } from '@weftjs/spec'
import { add, linear, matMul, reshape, sum as sumOf, type Tensor, zeros } from '@weftjs/tensor'
import { dense, scale, sum } from '@weftjs/weight'
import { type LoraOptions, loraScale } from './lora.ts'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { kaiming, mustBeNumber, mustBeWhole, mustFit } from './shared/start.ts'

export interface QaLoraOptions
  extends Pick<LoraOptions, 'rank' | 'alpha' | 'rslora' | 'dropout' | 'rankPattern' | 'alphaPattern'> {
  /** neighbouring inputs that the update reads as one: those that share a zero point in the base, or several times as many */
  readonly group?: number
}
export interface QaLoraState extends Record<string, Tensor> {
  /** A [r, in/group] */
  a: Tensor2D
  /** B [out, r] */
  b: Tensor2D
}

/** numbers that train at a site: r·(in/group + out) */
export const trainable = ({ in: n, out }: Site, { rank = 8, group = 16 }: QaLoraOptions = {}): number =>
  rank * (n / group + out)

/** B·A·P, P summing each group of inputs: the same number for all inputs of a group */
const pooled = ({ a, b }: QaLoraState, group: number): Weight => {
  const [out, count] = [b.shape[0], a.shape[1]]
  return {
    shape: [out, count * group],
    format: 'pooled-low-rank',
    parts: { b, a },
    apply: (x) => linear(linear(sumOf(reshape(x, [...x.shape.slice(0, -1), count, group]), -1), a), b),
    dense: () => {
      const each = reshape(matMul(b, a), [out, count, 1]) // [out, in/group, 1]
      return reshape(add(each, zeros([out, count, group])), [out, count * group]) as Tensor2D
    },
    like: dense,
  }
}

/**
 * W + (α/r)·B·A·P, P summing each group of inputs, A random, B zero  —  Xu et al., arXiv:2309.14717
 *
 * The update is one number for each output and group, so a base whose groups have zero points that are no whole numbers takes
 * it up in these: `int4({ group, floatZero: true })`, or hqq without its solver. Folded, such a base has the codes that it
 * had. On other bases the fold rounds anew, as LoRA's does. P is the paper's mean times the group; PEFT multiplies the mean
 * by how many groups there are, which reading and writing its files makes good in A. What a step takes beyond LoRA's is
 * mostly the decoding of such a base, which LoRA on it takes as well.
 */
export const qaLora = (options: QaLoraOptions = {}): Adapter<QaLoraState> => {
  const { dropout = 0, group = 16, alpha = 1 } = options
  mustBeChance('qa-lora: dropout', dropout)
  mustBeNumber('qa-lora: alpha', alpha)
  mustBeWhole('qa-lora', 'group', group)
  const at = loraScale(options)
  return {
    name: 'qa-lora',
    options: { ...options },
    init: (site, { rng }) => {
      const { rank: r } = at(site)
      mustFit(site, r)
      const [out, input] = site.weight!.shape
      if (input % group)
        throw new Error(
          `${site.name}: groups of ${group} do not divide ${input} inputs; take the group of the base, or narrow "at"`,
        )
      const a = kaiming(rng, [r, input / group]) as Tensor2D // [r, in/group]
      return { state: { a, b: zeros([out, r]) as Tensor2D } }
    },
    weight: (base, state, ctx) =>
      sum(base, scale(at(ctx.site).factor, droppedWhile(ctx, dropout, pooled(state, group)))),
  }
}
