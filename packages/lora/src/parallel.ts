import type { Adapter, Site, Tensor, Weight } from '@weftjs/spec'
import { add, mul, scalar } from '@weftjs/tensor'
import { lowRank, scale as scaled, sum } from '@weftjs/weight'
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

export interface ParallelOptions extends BottleneckOptions {
  /** s */
  readonly scale?: Scale
}
export interface ParallelState extends Bottleneck, BottleneckBiases {
  /** s, where it trains [] */
  scale?: Tensor
}

/** numbers that train at a site: w·(in + out); with biases w + out more */
export const trainable = ({ in: n, out }: Site, options: ParallelOptions = {}): number =>
  bottleneckCount(n, out, { width: 256, ...options }) + (options.scale === 'learned' ? 1 : 0)

/** M(x) + s·U·tanh(D·x) beside a module M: a matrix, an attention, an MLP  —  Hu et al., arXiv:2304.01933; He et al., arXiv:2110.04366 */
export const parallel = (options: ParallelOptions = {}): Adapter<ParallelState> => {
  const { scale = 1, activation = 'tanh', dropout = 0, bias = false } = options
  checkBottleneck('parallel', options)
  checkScale('parallel', scale)
  const by = ({ scale: s }: ParallelState): number | Tensor => s ?? (scale as number)
  // without an activation it is LoRA of rank w
  const linearly = activation === 'identity' && !dropout && !bias
  return {
    name: 'parallel',
    options: { ...options },
    init: (site, { rng }) => {
      mustReadFeatures(site)
      const start = bottleneckStart(site.name, rng, [site.in, site.out], { width: 256, ...options })
      return { state: { ...start, ...(scale === 'learned' && { scale: scalar(1) }) } }
    },
    ...(linearly
      ? {
          weight: (base: Weight, state: ParallelState): Weight =>
            sum(base, scaled(by(state), lowRank(state.up, state.down))),
        }
      : {
          around: (next, x, state, ctx) => add(next(x), mul(bottleneck(x, state, activation, dropout, ctx), by(state))),
        }),
  }
}
