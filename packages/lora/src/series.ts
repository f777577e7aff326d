import type { Adapter, Site, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, linear, mul, scalar } from '@weftjs/tensor'
import {
  type Bottleneck,
  type BottleneckBiases,
  type BottleneckOptions,
  bottleneck,
  bottleneckCount,
  bottleneckStart,
  checkBottleneck,
  checkScale,
  mustReadFeatures,
  type Scale,
} from './shared/bottleneck.ts'
import { inputSide, outputSide } from './shared/output-side.ts'

export interface SeriesOptions extends BottleneckOptions {
  /** at what goes into the module, or at what comes out. The paper: before `gate` and `up`, after `down` */
  readonly place?: 'before' | 'after'
  /** s */
  readonly scale?: Scale
}
export interface SeriesState extends Bottleneck, BottleneckBiases {
  /** s, where it trains [] */
  scale?: Tensor
}

const widthAt = ({ in: n, out }: Site, { place = 'after' }: SeriesOptions): number => (place === 'before' ? n : out)

/** numbers that train at a site: 2·w·d, d the width of the input or of the output; with biases w + d more */
export const trainable = (site: Site, options: SeriesOptions = {}): number => {
  const d = widthAt(site, options)
  return bottleneckCount(d, d, { width: 256, ...options }) + (options.scale === 'learned' ? 1 : 0)
}

/** h + f(h), h = W·x, or W·(x + f(x)), f(z) = s·U·tanh(D·z)  —  Hu et al., arXiv:2304.01933 */
export const series = (options: SeriesOptions = {}): Adapter<SeriesState> => {
  const { place = 'after', scale = 1, activation = 'tanh', dropout = 0, bias = false } = options
  checkBottleneck('series', options)
  checkScale('series', scale)
  if (place !== 'before' && place !== 'after')
    throw new Error(`series: place is 'before' or 'after' the module, found '${place}'`)
  const by = ({ scale: s }: SeriesState): number | Tensor => s ?? (scale as number)
  // without an activation the adapter is a matrix itself, and can be folded
  const linearly = activation === 'identity' && !dropout && !bias
  return {
    name: 'series',
    options: { ...options },
    init: (site, { rng }) => {
      if (place === 'before') mustReadFeatures(site)
      const d = widthAt(site, options)
      const start = bottleneckStart(site.name, rng, [d, d], { width: 256, ...options })
      return { state: { ...start, ...(scale === 'learned' && { scale: scalar(1) }) } }
    },
    ...(linearly
      ? {
          weight: (base: Weight, state: SeriesState): Weight =>
            (place === 'before' ? inputSide : outputSide)(base, state.up, state.down, by(state)),
          // (I + s·U·D)·(W·x + b): the bias passes through, too
          vector: (which, b, state) =>
            which === 'bias' && b && place === 'after' ? add(b, mul(through(b, state.down, state.up), by(state))) : b,
        }
      : {
          around: (next, x, state, ctx) => {
            const f = (z: Tensor): Tensor => mul(bottleneck(z, state, activation, dropout, ctx), by(state))
            if (place === 'before') return next(add(x, f(x)))
            const h = next(x)
            return add(h, f(h))
          },
        }),
  }
}

/** U·D·b for a vector b [d] */
const through = (b: Tensor, down: Tensor2D, up: Tensor2D): Tensor => linear(linear(b, down), up)
