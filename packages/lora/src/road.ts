import type { Adapter, Site, Tensor1D, Weight } from '@weftjs/spec'
import {
  add,
  cos,
  defineKernel,
  gather,
  mul,
  ones,
  reshape,
  sin,
  slice,
  type Tensor,
  tensor1d,
  tensor2d,
  tile,
  zeros,
} from '@weftjs/tensor'
import { compose, mapped } from '@weftjs/weight'
import { mustBeWhole, weightOf } from './shared/start.ts'

export interface RoadOptions {
  /** numbers for each pair of outputs: one angle and scale (1), one of each output (2), two of each output (4) */
  readonly variant?: 1 | 2 | 4
  /** outputs i and i + group/2 of a group are a pair */
  readonly group?: number
}
export interface RoadState extends Record<string, Tensor> {
  /** θ [variant·out/2] */
  theta: Tensor1D
  /** α, as many */
  alpha: Tensor1D
}

/** numbers that train at a site: variant·out */
export const trainable = ({ out }: Site, { variant = 1 }: RoadOptions = {}): number => variant * out

/** the halves of each group exchanged: halves [n, 2, group/2] */
const exchanged = defineKernel<{ halves: Tensor }, object>({
  name: 'ExchangeHalves',
  plain: ({ halves }) => gather(halves, tensor1d([1, 0], 'int32'), 1),
  keeps: () => [],
  gradient: ({ dy }) => ({ halves: gather(dy, tensor1d([1, 0], 'int32'), 1) }),
})

/** y·c + J·y·s, J(y₁, y₂) = (−y₂, y₁) for the halves of each group: y [..., out], c and s [out] */
const turned = (y: Tensor, c: Tensor, s: Tensor, group: number): Tensor => {
  const partner = reshape(exchanged({ halves: reshape(y, [-1, 2, group / 2]) }, {}), y.shape)
  const signed = reshape(mul(reshape(s, [-1, 2, group / 2]), tensor2d([-1, 1], [2, 1])), [-1]) // [out]
  return add(mul(y, c), mul(partner, signed))
}

/**
 * R·W, R = α·(cos θ, −sin θ; sin θ, cos θ) for pairs of outputs, θ zero and α one  —  Liao et al., arXiv:2409.00119
 *
 * Few numbers train, and a step still takes 1.6 of LoRA's: five passes over all outputs of a layer, forward and backward, that
 * only wait for memory.
 */
export const road = (options: RoadOptions = {}): Adapter<RoadState> => {
  const { variant = 1, group = 64 } = options
  if (![1, 2, 4].includes(variant)) throw new Error(`road: variant must be 1, 2 or 4, found ${variant}`)
  mustBeWhole('road', 'group', group, 2)
  if (group % 2) throw new Error(`road: group must be even, found ${group}`)
  /** what multiplies an output, and what its partner [out] each */
  const factors = ({ theta, alpha }: RoadState): [c: Tensor, s: Tensor] => {
    // of each group: (half), (all), or (all for c, all for s)
    const parts = (x: Tensor): [Tensor, Tensor] => {
      if (variant === 2) return [x, x]
      if (variant === 1) {
        const both = reshape(tile(reshape(x, [-1, 1, group / 2]), [1, 2, 1]), [-1]) // [out]
        return [both, both]
      }
      const grouped = reshape(x, [-1, 2, group])
      const part = (i: number): Tensor => reshape(slice(grouped, [0, i, 0], [-1, 1, -1]), [-1]) // [out]
      return [part(0), part(1)]
    }
    const [angleC, angleS] = parts(theta)
    const [scaleC, scaleS] = parts(alpha)
    return [mul(scaleC, cos(angleC)), mul(scaleS, sin(angleS))]
  }
  return {
    name: 'road',
    options: { ...options },
    init: (site) => {
      const { name, kind, weight } = site
      const out = weightOf(site).shape[0]
      if (kind === 'embed')
        throw new Error(
          `${name}: rows of [${weight!.shape}] are looked up here, and pairs of them would turn; adapt what reads them`,
        )
      if (out % group)
        throw new Error(`${name}: ${out} outputs are no whole number of groups of ${group}; lower "group" to a divisor`)
      const size = (variant * out) / 2
      return { state: { theta: zeros([size]) as Tensor1D, alpha: ones([size]) as Tensor1D } }
    },
    weight: (base, state): Weight => {
      const [out] = base.shape
      const [c, s] = factors(state)
      return {
        ...compose(
          mapped([out, out], { c, s }, (y) => turned(y, c, s, group)),
          base,
        ),
        like: base.like,
      }
    },
    // PEFT turns what a layer gives, with its bias
    vector: (_, bias, state) => bias && turned(bias, ...factors(state), group),
  }
}
