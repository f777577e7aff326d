import type { Adapter, ReviseContext, Revision, Rng, Scalar, Site, Tensor1D, Tensor2D } from '@weftjs/spec'
import {
  abs,
  add,
  concat,
  expandDims,
  fill,
  mul,
  scalar,
  slice,
  sub,
  type Tensor,
  sum as total,
  transpose,
  zeros,
} from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'
import { skewness } from './shared/orthogonal.ts'
import { mustBeNumber, mustBeWhole, mustFit } from './shared/start.ts'

export interface IncreLoraOptions {
  /** rank that every site begins with */
  readonly rank?: number
  /** rank on average over sites that is grown to */
  readonly target?: number
  /** ranks that a site gains at a time, sites that gain at a time, and steps from one time to the next */
  readonly increment?: number
  readonly top?: number
  readonly every?: number
  /** steps before the first */
  readonly warm?: number
  /** the update is scaled by α/R, R the rank as it is now, or, `fixed`, as it will be: then growth changes no output */
  readonly alpha?: number
  readonly scaling?: 'rank' | 'fixed'
  /** the next ranks of each site learn ahead of their turn, with a λ of 10⁻⁵ that is held */
  readonly advance?: boolean
  /** decay of the averages of importance and of its uncertainty */
  readonly b1?: number
  readonly b2?: number
  /** γ of the penalty that keeps A's rows and B's columns orthogonal */
  readonly orthogonal?: number
  /** of what has grown already, by site: R, and R with its reserve */
  readonly ranks?: Readonly<Record<string, readonly [rank: number, width: number]>>
}
export interface IncreLoraState extends Record<string, Tensor> {
  /** A [R + reserve, in]; the reserve is gone when the target is reached */
  a: Tensor2D
  /** B [out, R + reserve] */
  b: Tensor2D
  /** Λ [R], what is active */
  lambda: Tensor1D
  /** Λ of the reserve [increment], fixed */
  reserve: Tensor1D
  /** averages of importance and of its uncertainty [1], fixed */
  mean: Tensor1D
  spread: Tensor1D
}

const begun = (name: string, { rank = 1, increment = 1, ranks }: IncreLoraOptions): readonly [number, number] =>
  ranks?.[name] ?? [rank, rank + increment]

/** numbers that train at a site at first: (R + increment)·(in + out) + R */
export const trainable = ({ name, in: n, out }: Site, options: IncreLoraOptions = {}): number => {
  const [rank, width] = begun(name, options)
  return width * (n + out) + rank
}

const rows = (rng: Rng, key: string, shape: number[]): Tensor => rng.fork(key).normal(shape, 0.02)
/** moments of what stays, zeros for what is new; or the first of them, where some went */
const resized =
  (axis: 0 | 1, to: number) =>
  (moment: Tensor): Tensor => {
    const [r, n] = [moment.shape[axis]!, moment.shape[1 - axis]!]
    const shape = (k: number): [number, number] => (axis ? [n, k] : [k, n])
    return to > r ? concat([moment, zeros(shape(to - r))], axis) : slice(moment, [0, 0], shape(to))
  }

/**
 * W + (α/R)·B·Λ·A, ranks added where the update matters most  —  Zhang et al., arXiv:2308.12043
 *
 * The paper's score of a site is Σ|ΔW ⊙ ∂ΔW|/√(in·out) and takes a gradient [out, in] that LoRA's step never makes. Here the
 * same terms are summed over rows or over columns of each rank before their absolute values are taken, which is what
 * |A ⊙ ∂A| and |B ⊙ ∂B| sum up to, and the mean of the two counts. New ranks share the learning rate of the others.
 */
export const increLora = (options: IncreLoraOptions = {}): Adapter<IncreLoraState> => {
  const { rank = 1, target = 2, increment = 1, top = 3, every = 100, warm = every, alpha = 16 } = options
  const { scaling = 'rank', advance = true, b1 = 0.85, b2 = 0.85, orthogonal = 0.1 } = options
  for (const [what, n] of Object.entries({ rank, increment, top, every })) mustBeWhole('incre-lora', what, n)
  mustBeWhole('incre-lora', 'warm', warm, 0)
  mustBeNumber('incre-lora: alpha', alpha)
  if (!(target >= rank)) throw new Error(`incre-lora: target ${target} is below the first rank ${rank}; raise target`)
  if (!(orthogonal >= 0)) throw new Error(`incre-lora: orthogonal must be at least 0, found ${orthogonal}`)
  for (const [what, b] of Object.entries({ b1, b2 }))
    if (!(b > 0 && b < 1)) throw new Error(`incre-lora: ${what} must be between 0 and 1, found ${b}`)

  const importance = (
    { a, b, mean, spread }: IncreLoraState,
    grads: Partial<IncreLoraState>,
  ): Partial<IncreLoraState> => {
    const sides = (['a', 'b'] as const).map((key) => total(abs(mul({ a, b }[key], grads[key] ?? 0))))
    const now = mul(add(sides[0]!, sides[1]!), 0.5 / Math.sqrt(a.shape[1] * b.shape[0]))
    const next = add(mul(mean, b1), mul(now, 1 - b1)) // [1]
    return { mean: next, spread: add(mul(spread, b2), mul(abs(sub(now, next)), 1 - b2)) } as Partial<IncreLoraState>
  }
  /** `gain` ranks more of the reserve, and a reserve behind them where there is one still */
  const grown = (
    { a, b, lambda, reserve }: IncreLoraState,
    gain: number,
    more: boolean,
    rng: Rng,
  ): Revision<IncreLoraState> => {
    const R = lambda.size + gain
    const width = R + (more ? increment : 0)
    const moments = { a: resized(0, width), b: resized(1, width), lambda: (m: Tensor) => concat([m, zeros([gain])]) }
    const extended = width > a.shape[0]
    const state: Partial<IncreLoraState> = {
      a: (extended
        ? concat([a, rows(rng, 'a', [increment, a.shape[1]])], 0)
        : slice(a, [0, 0], [width, -1])) as Tensor2D,
      b: (extended
        ? concat([b, rows(rng, 'b', [b.shape[0], increment])], 1)
        : slice(b, [0, 0], [-1, width])) as Tensor2D,
      ...(gain && { lambda: concat([lambda, reserve]) as Tensor1D }),
    }
    return { state, moments }
  }
  const revise = (
    sites: Readonly<Record<string, { state: IncreLoraState; grads: Partial<IncreLoraState> }>>,
    { step, steps, rng }: ReviseContext,
  ): Record<string, Revision<IncreLoraState>> => {
    const list = Object.entries(sites)
    const goal = Math.floor(target * list.length)
    const now = list.reduce((n, [, { state }]) => n + state.lambda.size, 0)
    const rounds = (left: number): number => Math.ceil(Math.floor(left / increment) / Math.min(top, list.length))
    const reached = goal - now < increment || step >= steps
    const kept = list.filter(([, { state }]) => state.a.shape[0] > state.lambda.size)
    if (reached) return Object.fromEntries(kept.map(([name, { state }]) => [name, grown(state, 0, false, rng)]))
    const turns = Math.max(0, Math.floor((steps - warm) / every)) - Math.max(0, Math.floor((step - 1 - warm) / every))
    if (step === 1 && rounds(goal - now) > turns)
      throw new Error(
        `incre-lora: rank ${target} takes ${rounds(goal - now)} times of growth, and ${steps} steps have ${turns}; lower target, every or warm, or raise top`,
      )
    const moved = list.map(([, { state, grads }]) => importance(state, grads))
    if (step <= warm || (step - warm) % every)
      return Object.fromEntries(list.map(([name], i) => [name, { state: moved[i]! }]))
    const score = moved.map(({ mean, spread }) => (mul(mean!, spread!) as Tensor).dataSync()[0]!)
    const most = Math.min(top, Math.floor((goal - now) / increment))
    // those that cannot have more are passed over
    const able = list.flatMap(([, { state }], i) =>
      state.lambda.size + 2 * increment <= Math.min(state.a.shape[1], state.b.shape[0]) ? [i] : [],
    )
    const chosen = new Set(able.sort((i, j) => score[j]! - score[i]! || i - j).slice(0, most))
    const more = goal - now - chosen.size * increment >= increment
    return Object.fromEntries(
      list.map(([name, { state }], i) => {
        const { state: next, moments } =
          chosen.has(i) || !more
            ? grown(state, chosen.has(i) ? increment : 0, more, rng.fork(name))
            : { state: {}, moments: {} }
        return [name, { state: { ...moved[i], ...next }, ...(moments && { moments }) }]
      }),
    )
  }
  return {
    name: 'incre-lora',
    options: { ...options },
    settled: (states) => ({
      ...options,
      ranks: Object.fromEntries(Object.entries(states).map(([n, { a, lambda }]) => [n, [lambda.size, a.shape[0]]])),
    }),
    init: (site, { rng, sites, shared }) => {
      const [own, width] = begun(site.name, options)
      mustFit(site, width)
      const [out, input] = site.weight!.shape
      if (top > sites.length)
        throw new Error(`${site.name}: top ${top} exceeds ${sites.length} sites; lower top or widen "at"`)
      const room = sites.reduce((n, { weight }) => n + Math.min(...weight!.shape) - increment, 0)
      if (target * sites.length > room)
        throw new Error(
          `${site.name}: target ${target} is ${target * sites.length} ranks in all, and the matrices have ${room}; lower target`,
        )
      shared('share', () => scalar(1 / (2 * sites.length)))
      const state = {
        ...{
          a: rows(rng, 'a', [width, input]) as Tensor2D,
          b: rows(rng, 'b', [out, width]) as Tensor2D,
          lambda: zeros([own]) as Tensor1D,
        },
        reserve: fill([increment], advance ? 1e-5 : 0) as Tensor1D,
        ...{ mean: zeros([1]) as Tensor1D, spread: zeros([1]) as Tensor1D },
      }
      return { state, trains: ['a', 'b', 'lambda'] }
    },
    weight: (base, { a, b, lambda, reserve }, { shared, training, penalty }) => {
      if (training && orthogonal && shared['share'])
        penalty(mul(mul(add(skewness(a), skewness(transpose(b))), shared['share']), orthogonal) as Scalar)
      const all = a.shape[0] > lambda.size ? concat([lambda, reserve]) : lambda // [R + reserve]
      const divisor = scaling === 'rank' ? lambda.size : target
      return sum(base, scale(alpha / divisor, lowRank(b, mul(expandDims(all, 1), a) as Tensor2D)))
    },
    revise,
  }
}
