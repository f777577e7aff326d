import type { Adapter, RunContext, Site, Tensor2D } from '@weftjs/spec'
import {
  add,
  div,
  maximum,
  minimum,
  mul,
  sqrt,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  tensor2d,
  zeros,
} from '@weftjs/tensor'
import { blockDiagonal, compose } from '@weftjs/weight'
import { cayley, neumann, skew } from './shared/cayley.ts'
import { mustBeChance, turning } from './shared/dropped.ts'
import { mustBeNumber, mustBeWhole } from './shared/start.ts'

export interface OftOptions {
  /** inputs that turn together; where it does not divide them all, the nearest number that does */
  readonly block?: number
  /** how many blocks instead */
  readonly blocks?: number
  /** one rotation for all blocks */
  readonly share?: boolean
  /** a polynomial of Q in place of the inverse, near the rotation by −Q while Q is small */
  readonly neumann?: boolean
  /** terms of the polynomial */
  readonly terms?: number
  /** hold Q to a ball of this radius over √blocks: constrained OFT; none by default */
  readonly radius?: number
  /** share of the blocks that do not turn in a training step */
  readonly dropout?: number
}
export interface OftState extends Record<string, Tensor> {
  /** upper triangles of Q [blocks, b·(b−1)/2] */
  q: Tensor2D
}

/** the divisor of n that is nearest to `wanted`, the smaller of two: PEFT's choice */
const divisor = (n: number, wanted: number): number => {
  if (wanted >= n) return n
  let [high, low] = [wanted, wanted]
  while (n % high) high++
  while (n % low) low--
  return wanted - low <= high - wanted ? low : high
}
/** b and the number of blocks over n inputs */
const split = (n: number, { block = 32, blocks }: OftOptions): [b: number, count: number] => {
  const one = divisor(n, blocks ?? block)
  return blocks === undefined ? [one, n / one] : [n / one, one]
}

/** numbers that train at a site: blocks·b·(b−1)/2, for one block where it is shared */
export const trainable = ({ in: n, out, kind }: Site, options: OftOptions = {}): number => {
  const [b, count] = split(kind === 'embed' ? out : n, options)
  return (options.share ? 1 : count) * ((b * (b - 1)) / 2)
}

/** q within the ball of radius ε/√blocks, each block by itself (‖Q‖ counts both triangles) */
const held = (q: Tensor, radius: number): Tensor => {
  const norm = sqrt(mul(2, sum(square(q), 1, true))) // [blocks, 1]
  return mul(q, minimum(1, div(radius / Math.sqrt(q.shape[0]!), maximum(norm, 1e-30))))
}

/**
 * W·diag(R₁, ..., R_k)ᵀ, R = (I + Q)⁻¹(I − Q) of a skew Q, zero at the start  —  Qiu et al., arXiv:2306.07280
 *
 * A step takes 1.5 of LoRA's: b multiplications for each input rather than a rank's, and a series of products for the blocks.
 */
export const oft = (options: OftOptions = {}): Adapter<OftState> => {
  const { share = false, neumann: series = true, terms = 5, radius, dropout = 0 } = options
  if (options.block !== undefined && options.blocks !== undefined)
    throw new Error('oft: block times blocks is the number of inputs; give one of the two')
  mustBeWhole('oft', 'block', options.block ?? 1)
  mustBeWhole('oft', 'blocks', options.blocks ?? 1)
  mustBeWhole('oft', 'terms', terms)
  mustBeNumber('oft: radius', radius ?? 0)
  mustBeChance('oft: dropout', dropout)
  /** some blocks do not turn in a training step; PEFT has the option, and does not apply it */
  const still = (q: Tensor, { training, rng }: RunContext): Tensor => {
    const n = q.shape[0]!
    if (!training || !rng || n === 1 || Math.floor(dropout * n) === 0) return q
    return mul(q, tensor2d(turning(rng.fork('blocks'), n, dropout), [n, 1]))
  }
  return {
    name: 'oft',
    options: { ...options },
    init: (site) => {
      const [b, count] = split(site.weight!.shape[1], options)
      if (b < 2) throw new Error(`${site.name}: blocks of ${b} have nothing to turn; raise "block" or lower "blocks"`)
      return { state: { q: zeros([share ? 1 : count, (b * (b - 1)) / 2]) as Tensor2D } }
    },
    weight: (base, { q }, ctx) => {
      const [b, count] = split(base.shape[1], options)
      // the gradient is taken as if q itself were in the ball, as it is after each step
      const inside = radius === undefined ? q : add(q, stopGradient(sub(held(q, radius), q)))
      const turn = skew(still(inside, ctx), b) // [blocks, b, b]
      // PEFT: x·R for inputs, where R is (I − Q)(I + Q)⁻¹ or the series of its inverse; of −Q, each is transposed.
      // An embedding's rows are its outputs, so that there R acts from the other side.
      const rotation = ctx.site.kind === 'embed' ? turn : mul(turn, -1)
      return compose(base, blockDiagonal(series ? neumann(rotation, terms) : cayley(rotation), count))
    },
    ...(radius !== undefined && {
      revise: (sites) =>
        Object.fromEntries(
          Object.entries(sites).map(([name, { state }]) => [name, { state: { q: held(state.q, radius) as Tensor2D } }]),
        ),
    }),
  }
}
