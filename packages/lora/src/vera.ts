import type { Adapter, InitContext, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import { fill, slice, type Tensor, tensor2d, zeros } from '@weftjs/tensor'
import { scaleRows, sum } from '@weftjs/weight'
import { between } from './shared/between.ts'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { mustBeNumber, mustBeWhole } from './shared/start.ts'
import { torchRandom } from './shared/torch-random.ts'

export interface VeraOptions {
  /** r; far more than a LoRA's, since only two vectors train */
  readonly rank?: number
  /** value that d begins with */
  readonly initial?: number
  /** of the generator that A and B are drawn from: PEFT's `projection_prng_key` */
  readonly seed?: number
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
}
export interface VeraState extends Record<string, Tensor> {
  /** [r] */
  d: Tensor1D
  /** [out] */
  b: Tensor1D
}

/** numbers that train at a site: r + out */
export const trainable = ({ out }: Site, { rank = 256 }: VeraOptions = {}): number => rank + out

/** largest [out, in] of all sites */
export const largest = (sites: InitContext['sites']): [out: number, input: number] => [
  Math.max(...sites.map((s) => s.weight?.shape[0] ?? 0)),
  Math.max(...sites.map((s) => s.weight?.shape[1] ?? 0)),
]

/** W + diag(b)·B·diag(d)·A, A and B random, fixed and the same for all sites, b zero  —  Kopiczko et al., arXiv:2310.11454 */
export const vera = (options: VeraOptions = {}): Adapter<VeraState> => {
  const { rank: r = 256, initial = 0.1, seed = 0, dropout = 0 } = options
  mustBeWhole('vera', 'rank', r)
  mustBeWhole('vera', 'seed', seed, 0)
  mustBeNumber('vera: initial', initial)
  mustBeChance('vera: dropout', dropout)
  return {
    name: 'vera',
    options: { ...options },
    init: ({ weight }, { sites, shared }) => {
      const [out, input] = largest(sites)
      // one pair for all sites, as large as the largest; B is drawn after A: PEFT's numbers bit by bit
      const kaiming = (rows: number, cols: number, after: number) => (): Tensor2D => {
        const draw = torchRandom(seed)
        draw.skip(after)
        return tensor2d(draw.uniform(rows * cols, -Math.sqrt(6 / cols), Math.sqrt(6 / cols)), [rows, cols])
      }
      shared('a', kaiming(r, input, 0)) // [r, in of all]
      shared('b', kaiming(out, r, r * input)) // [out of all, r]
      return { state: { d: fill([r], initial) as Tensor1D, b: zeros([weight!.shape[0]]) as Tensor1D } }
    },
    // ranks of hundreds: at r near half of in, its two products are as large as the base's own, so a step may take two of LoRA's
    weight: (base, { d, b }, ctx) => {
      const [out, input] = base.shape
      const [a, big] = [ctx.shared['a']!, ctx.shared['b']!]
      const rows = slice(big, [0, 0], [out, r]) as Tensor2D // [out, r]
      const columns = slice(a, [0, 0], [r, input]) as Tensor2D // [r, in]
      return sum(base, droppedWhile(ctx, dropout, scaleRows(b, between(rows, d, columns))))
    },
  }
}
