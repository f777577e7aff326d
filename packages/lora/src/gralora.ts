import type { Adapter, Site, Tensor2D, Tensor3D } from '@weftjs/spec'
import { reshape, type Tensor, transpose, zeros } from '@weftjs/tensor'
import { blockDiagonal, compose, lowRank, mapped, scale, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { kaiming, mustBeNumber, mustBeWhole, mustFit } from './shared/start.ts'

export interface GraloraOptions {
  /** r, of which each of k·k blocks has r/k */
  readonly rank?: number
  /** the update is scaled by α/(r + hybrid) */
  readonly alpha?: number
  /** k: inputs and outputs are each cut into so many parts */
  readonly parts?: number
  /** rank of a plain LoRA beside it */
  readonly hybrid?: number
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
}
export interface GraloraState extends Record<string, Tensor> {
  /** for each part of the inputs [k, in/k, r] */
  a: Tensor3D
  /** for each part of the outputs [k, r, out/k] */
  b: Tensor3D
}

/** numbers that train at a site: (r + hybrid)·(in + out) */
export const trainable = ({ in: n, out }: Site, { rank = 32, hybrid = 0 }: GraloraOptions = {}): number =>
  (rank + hybrid) * (n + out)

/** W + (α/r)·(Bᵢⱼ·Aᵢⱼ for each of k·k blocks), all of their own rank r/k, B zero  —  Jung et al., arXiv:2505.20355 */
export const gralora = (options: GraloraOptions = {}): Adapter<GraloraState> => {
  const { rank: r = 32, alpha = 64, parts: k = 2, hybrid = 0, dropout = 0 } = options
  mustBeWhole('gralora', 'parts', k)
  mustBeWhole('gralora', 'rank', r)
  mustBeWhole('gralora', 'hybrid', hybrid, 0)
  mustBeNumber('gralora: alpha', alpha)
  mustBeChance('gralora: dropout', dropout)
  if (r % k) throw new Error(`gralora: rank ${r} is no multiple of ${k} parts; choose one, or fewer "parts"`)
  return {
    name: 'gralora',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      mustFit(site, Math.max(r, hybrid))
      if (out % k || input % k)
        throw new Error(
          `${site.name}: [${out}, ${input}] cannot be cut into ${k} by ${k}; choose "parts" that divide both`,
        )
      const a = transpose(kaiming(rng, [k, r, input / k]), [0, 2, 1]) // [k, in/k, r]
      const b = zeros([k, r, out / k])
      const plain = hybrid > 0 && { ga: kaiming(rng.fork('hybrid'), [hybrid, input]), gb: zeros([out, hybrid]) }
      return { state: { a: a as Tensor3D, b: b as Tensor3D, ...plain } }
    },
    weight: (base, { a, b, ga, gb }, ctx) => {
      // each part of the inputs sends r/k numbers to each part of the outputs
      const sent = mapped([k * r, k * r], {}, (h) =>
        reshape(transpose(reshape(h, [-1, k, k, r / k]), [0, 2, 1, 3]), h.shape),
      )
      const turned = (t: Tensor3D): Tensor3D => transpose(t, [0, 2, 1])
      const blocks = compose(blockDiagonal(turned(b)), compose(sent, blockDiagonal(turned(a))))
      const delta = ga ? sum(blocks, lowRank(gb as Tensor2D, ga as Tensor2D)) : blocks
      return sum(base, scale(alpha / (r + hybrid), droppedWhile(ctx, dropout, delta)))
    },
  }
}
