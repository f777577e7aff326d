import type { Adapter, RunContext, Site, Tensor, Tensor1D, Tensor2D } from '@weftjs/spec'
import { add, cast, concat, div, expandDims, linear, mean, mul, sigmoid, sum, zeros } from '@weftjs/tensor'
import {
  activated,
  type Bottleneck,
  type BottleneckBiases,
  bottleneck,
  bottleneckCount,
  bottleneckStart,
  checkBottleneck,
  type Hidden,
} from './shared/bottleneck.ts'
import { kaiming, mustBeNumber, mustBeWhole } from './shared/start.ts'

/** one gate for each number, each token, each channel, or each example */
export type Granularity = 'large' | 'middleX' | 'middleY' | 'small'

export interface VlPetOptions {
  /** hidden units. (The paper parts the way down into heads; side by side these are one matrix.) */
  readonly width?: number
  readonly granularity?: Granularity
  /** g, hidden units of the gate of `large` */
  readonly gateWidth?: number
  /** s: 1 for BART, 0.3 for T5 */
  readonly scale?: number
  readonly activation?: Hidden
}
export interface VlPetState extends Bottleneck, BottleneckBiases {
  /** of `large`: [g, d], [g], [d, g], [d] */
  g1?: Tensor2D
  g1Bias?: Tensor1D
  g2?: Tensor2D
  g2Bias?: Tensor1D
  /** of `middleX` [1, d], [1]; of `small` [1, 2d], [1] */
  w?: Tensor2D
  wBias?: Tensor1D
  /** of `middleY` [d] */
  z?: Tensor1D
}

/** numbers that train at a site: w·2d + w + d, and of the gate 2·d·g + g + d, d + 1, d or 2d + 1; of values w·(in + out) + w + out */
export const trainable = (site: Site, options: VlPetOptions = {}): number => {
  const { width = 96, granularity = 'large', gateWidth: g = 96 } = options
  const { in: n, out: d, kind } = site
  if (kind === 'linear') return bottleneckCount(n, d, { width, bias: true })
  const gate = { large: 2 * d * g + g + d, middleX: d + 1, middleY: d, small: 2 * d + 1 }[granularity]
  return bottleneckCount(d, d, { width, bias: true }) + gate
}

/** s·G ⊙ (H + Δ(H)), G a gate from input X and output H of a module; at a linear V(x) + Δ(x)  —  Hu et al., arXiv:2308.09804 */
export const vlPet = (options: VlPetOptions = {}): Adapter<VlPetState> => {
  const { width = 96, granularity = 'large', gateWidth = 96, scale = 1, activation = 'gelu_tanh' } = options
  checkBottleneck('vl-pet', { activation })
  mustBeNumber('vl-pet: scale', scale)
  mustBeWhole('vl-pet', 'gateWidth', gateWidth)
  if (!['large', 'middleX', 'middleY', 'small'].includes(granularity))
    throw new Error(`vl-pet: granularity is large, middleX, middleY or small, found '${granularity}'`)
  const start = ({ name, out: d, block }: Site, rng: Parameters<typeof kaiming>[0]): Partial<VlPetState> => {
    const zero = (...shape: number[]): any => zeros(shape)
    if (granularity === 'large')
      // the second matrix begins at zero, so every gate at ½
      return {
        g1: kaiming(rng, [gateWidth, d]) as Tensor2D,
        g1Bias: zero(gateWidth),
        g2: zero(d, gateWidth),
        g2Bias: zero(d),
      }
    if (granularity === 'middleY') return { z: rng.normal([d], 0.02) as Tensor1D }
    if (granularity === 'small' && block?.causal)
      throw new Error(
        `${name}: 'small' takes one gate from the whole text, so tokens would see those to come; choose 'middleX'`,
      )
    return { w: kaiming(rng, [1, granularity === 'small' ? 2 * d : d]) as Tensor2D, wBias: zero(1) }
  }
  /** [B, T, d], [B, T, 1], [d] or [B, 1, 1] */
  const gate = (
    x: Tensor,
    y: Tensor,
    { g1, g1Bias, g2, g2Bias, w, wBias, z }: VlPetState,
    { inputs }: RunContext,
  ): Tensor => {
    if (z) return add(z, 1)
    if (g1) return sigmoid(linear(activated(linear(x, g1, g1Bias), activation), g2!, g2Bias))
    if (granularity === 'middleX') return sigmoid(linear(add(x, y), w!, wBias))
    const each = sigmoid(linear(concat([x, y], -1), w!, wBias)) // [B, T, 1]
    const { mask } = inputs
    if (!mask) return mean(each, 1, true)
    // over the tokens that are there; the paper's code takes padding in
    const there = expandDims(cast(mask, 'float32'), 2) // [B, T, 1]
    return div(sum(mul(each, there), 1, true), sum(there, 1, true))
  }
  return {
    name: 'vl-pet',
    options: { ...options },
    init: (site, { rng }) => {
      if (!['attn', 'mlp', 'linear'].includes(site.kind))
        throw new Error(
          `${site.name} (${site.kind}): adapters stand at 'blocks.*.{attn,mlp}', those of values at 'blocks.*.attn.v'; narrow "at"`,
        )
      const own = bottleneckStart(site.name, rng, [site.in, site.out], { width, bias: true })
      return { state: { ...own, ...(site.kind !== 'linear' && start(site, rng)) } as VlPetState }
    },
    around: (next, x, state, ctx) => {
      const h = next(x)
      const delta = (v: Tensor): Tensor => bottleneck(v, state, activation, 0, ctx)
      if (ctx.site.kind === 'linear') return add(h, delta(x))
      const y = add(h, delta(h)) // H + Δ
      return mul(mul(gate(x, y, state, ctx), y), scale)
    },
  }
}
