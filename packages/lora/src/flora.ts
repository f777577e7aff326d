import type { Adapter, Site, Tensor2D, Weight } from '@weftjs/spec'
import { reshape, type Tensor, transpose, zeros } from '@weftjs/tensor'
import { compose, dense, scale, sum } from '@weftjs/weight'
import { droppedWhile, mustBeChance } from './shared/dropped.ts'
import { mustBeNumber, mustBeWhole } from './shared/start.ts'
import { tucker } from './shared/tucker.ts'

export interface FloraOptions {
  /** of each mode: [in, out] of a matrix, [in, out, height, width] of a convolution's kernel; one number stands for all */
  readonly rank?: number | readonly number[]
  /** factor of the update */
  readonly scale?: number
  /** chance that an input of the update is dropped while training */
  readonly dropout?: number
  /** the matrix is the kernel of a convolution, [out, channels·height·width] (a ViT's patch embedding): its three sizes */
  readonly kernel?: readonly [channels: number, height: number, width: number]
}
/** the core is of the order of the ranks; a factor of each mode [d, r] */
export interface FloraState extends Record<string, Tensor> {
  /** core [r_in, r_out] or [r_in, r_out, r_h, r_w] */
  g: Tensor
  input: Tensor2D
  output: Tensor2D
}

const modesOf = ({ name, in: n, out }: Site, { rank = 8, kernel }: FloraOptions): [d: number, r: number][] => {
  if (kernel && kernel[0] * kernel[1] * kernel[2] !== n)
    throw new Error(
      `${name}: a kernel of [${kernel}] reads ${kernel[0] * kernel[1] * kernel[2]} numbers, the matrix ${n}; give the sizes of this convolution`,
    )
  const sizes = kernel ? [kernel[0], out, kernel[1], kernel[2]] : [n, out]
  const ranks = typeof rank === 'number' ? sizes.map((d) => (kernel ? Math.min(rank, d) : rank)) : rank
  if (ranks.length !== sizes.length)
    throw new Error(
      `${name}: ${ranks.length} ranks for ${sizes.length} modes of sizes [${sizes}]; give one rank for each`,
    )
  return sizes.map((d, m) => {
    const r = ranks[m]!
    mustBeWhole(name, 'rank', r)
    if (r > d) throw new Error(`${name}: rank ${r} exceeds ${d}, the size of mode ${m}; lower rank or narrow "at"`)
    return [d, r]
  })
}

const NAMES = ['input', 'output', 'height', 'width'] as const

/** numbers that train at a site: Σ d·r over the modes, and Π r */
export const trainable = (site: Site, options: FloraOptions = {}): number => {
  const modes = modesOf(site, options)
  return modes.reduce((n, [d, r]) => n + d * r, 0) + modes.reduce((n, [, r]) => n * r, 1)
}

/** W + s·(G ×₁ U₁ ×₂ U₂ ...), a Tucker core between one factor of each mode  —  Si et al., arXiv:2405.14739 */
export const flora = (options: FloraOptions = {}): Adapter<FloraState> => {
  const { scale: s = 4, dropout = 0, kernel } = options
  mustBeChance('flora: dropout', dropout)
  mustBeNumber('flora: scale', s)
  const update = ({ g, input, output, height, width }: FloraState): Weight => {
    if (!kernel) return compose(compose(dense(output), dense(transpose(g) as Tensor2D)), dense(transpose(input)))
    const k = tucker(g, [input, output, height as Tensor2D, width as Tensor2D]) // [channels, out, h, w]
    return dense(reshape(transpose(k, [1, 0, 2, 3]), [k.shape[1]!, -1]) as Tensor2D)
  }
  return {
    name: 'flora',
    options: { ...options },
    init: (site, { rng }) => {
      const [out, input] = site.weight!.shape
      const modes = modesOf({ ...site, in: input, out }, options)
      // Kaiming's normal with a = √3, whose fan-in is r: a deviation of √(½/r)
      const factors = modes.map(([d, r], m) => [NAMES[m]!, rng.fork(m).normal([d, r], Math.sqrt(0.5 / r))] as const) // [d, r]
      return { state: { g: zeros(modes.map(([, r]) => r)), ...Object.fromEntries(factors) } as FloraState }
    },
    weight: (base, state, ctx) => sum(base, scale(s, droppedWhile(ctx, dropout, update(state)))),
  }
}
