import type { Rng, RunContext, Site, Tensor, Tensor1D, Tensor2D } from '@weftjs/spec'
import { type Activation, activate, clone, div, linear, mul, zeros } from '@weftjs/tensor'
import { mustBeChance } from './dropped.ts'
import { kaiming, mustBeNumber, mustBeWhole } from './start.ts'

/** of the hidden units; `identity` makes an adapter linear */
export type Hidden = Activation | 'identity'

export interface Bottleneck extends Record<string, Tensor> {
  /** D [w, in] */
  down: Tensor2D
  /** U [out, w] */
  up: Tensor2D
}
export interface BottleneckBiases {
  /** [w] */
  downBias?: Tensor1D
  /** [out] */
  upBias?: Tensor1D
}
export interface BottleneckOptions {
  /** hidden units w */
  readonly width?: number
  readonly activation?: Hidden
  /** D uniform as PyTorch starts a linear layer and U zero, so that nothing changes at first; or both normal with deviation 0.02 */
  readonly init?: 'zero' | 'normal'
  /** a bias on each of the two */
  readonly bias?: boolean
  /** chance that a hidden unit is dropped while training */
  readonly dropout?: number
}

export const ACTIVATIONS: readonly Hidden[] = ['identity', 'relu', 'tanh', 'silu', 'gelu', 'gelu_tanh']

/** @throws Error for options that no bottleneck has, naming the method */
export const checkBottleneck = (
  method: string,
  { activation = 'relu', init = 'zero', dropout = 0 }: BottleneckOptions,
): void => {
  if (!ACTIVATIONS.includes(activation))
    throw new Error(`${method}: there is no activation '${activation}'; there are ${ACTIVATIONS.join(', ')}`)
  if (init !== 'zero' && init !== 'normal') throw new Error(`${method}: init is 'zero' or 'normal', found '${init}'`)
  mustBeChance(`${method}: dropout`, dropout)
}

/** @throws Error for a site that token ids go into */
export const mustReadFeatures = ({ name, kind, axes }: Site): void => {
  if (kind === 'model' || (kind === 'embed' && axes?.[0] === 'vocabulary'))
    throw new Error(`${name}: token ids go in here, which no adapter reads; put one after it, or narrow "at"`)
}

/** f(x), with `identity` among the f */
export const activated = (x: Tensor, f: Hidden): Tensor => (f === 'identity' ? clone(x) : activate(x, f))

/** x with each number zero by chance p and the rest 1/(1−p) times as large, while training */
export const thinned = (x: Tensor, p: number, { training, rng }: Pick<RunContext, 'training' | 'rng'>): Tensor =>
  training && p && rng ? mul(x, div(rng.fork('dropout').bernoulli(x.shape, 1 - p), 1 - p)) : x

/** U·f(D·x + d) + u: x [..., in] → [..., out] */
export const bottleneck = (
  x: Tensor,
  { down, up, downBias, upBias }: Bottleneck & BottleneckBiases,
  activation: Hidden,
  dropout: number,
  ctx: RunContext,
): Tensor => {
  const hidden = activated(linear(x, down, downBias), activation) // [..., w]
  return linear(thinned(hidden, dropout, ctx), up, upBias)
}

/** where a bottleneck begins. @throws Error where the width is no whole number, naming the site */
export const bottleneckStart = (
  where: string,
  rng: Rng,
  [input, out]: readonly [number, number],
  { width = 16, init = 'zero', bias = false }: BottleneckOptions,
): Bottleneck & BottleneckBiases => {
  mustBeWhole(where, 'width', width)
  const normal = (...shape: number[]): Tensor => rng.normal(shape, 0.02)
  return {
    down: (init === 'normal' ? normal(width, input) : kaiming(rng, [width, input])) as Tensor2D,
    up: (init === 'normal' ? normal(out, width) : zeros([out, width])) as Tensor2D,
    ...(bias && { downBias: zeros([width]) as Tensor1D, upBias: zeros([out]) as Tensor1D }),
  }
}

/** numbers of it: w·(in + out), and w + out more with biases */
export const bottleneckCount = (input: number, out: number, { width = 16, bias = false }: BottleneckOptions): number =>
  width * (input + out) + (bias ? width + out : 0)

/** a factor that is fixed, or trains from 1 */
export type Scale = number | 'learned'
export const checkScale = (method: string, scale: Scale): void => {
  if (scale !== 'learned') mustBeNumber(`${method}: scale`, scale)
}
