import type { Adapter, Site, Tensor } from '@weftjs/spec'
import { type Tensor2D, zeros } from '@weftjs/tensor'
import { lowRank, scale, sum } from '@weftjs/weight'
import { type LoraOptions, lora, loraScale, trainable as ofLora } from './lora.ts'

export interface ExpertLoraOptions extends Omit<LoraOptions, 'dropout' | 'loraBias'> {}
export interface ExpertLoraState extends Record<string, Tensor> {
  /** rows of Bₑ [out, r] that are this matrix's */
  b: Tensor2D
}

/** does this matrix share its A with others that a fused parameter holds (an expert's gate and up)? */
const shares = ({ fused }: Site): boolean => fused !== undefined && fused.parts > 1

/** numbers that train at a site by itself: r·out where an expert's gate and up share A, which has r·in more for both; else LoRA's */
export const trainable = (site: Site, { rank = 8 }: ExpertLoraOptions = {}): number =>
  shares(site) ? rank * site.out : ofLora(site, { rank })

/** name of the A that the parts of one expert share */
export const sharedA = ({ fused }: Site): string => `${fused!.parameter}.${fused!.expert}`

/**
 * Wₑ + (α/r)·Bₑ·Aₑ on the fused parameter [E, out, in] of a mixture of experts, gate and up sharing Aₑ  —  Mangrulkar et al., huggingface/peft, tuners/lora/layer.py
 */
export const expertLora = (options: ExpertLoraOptions = {}): Adapter<ExpertLoraState> => {
  const inner = lora(options)
  const at = loraScale(options)
  return {
    name: 'expert-lora',
    options: { ...options },
    init: (site, ctx) => {
      const { state } = inner.init(site, ctx)!
      if (!shares(site)) return { state }
      const { rank } = at(site)
      const a = ctx.shared(sharedA(site), (rng) => inner.init(site, { ...ctx, rng })!.state['a'] as Tensor2D, {
        trains: true,
      })
      if (a.shape[0] !== rank)
        throw new Error(
          `${site.name}: rank ${rank}, and gate and up of one expert share an A of rank ${a.shape[0]}; give both one rank`,
        )
      return { state: { b: zeros([site.out, rank]) as Tensor2D } }
    },
    weight: (base, { a, b }, { site, shared }) => {
      const down = a ?? shared[sharedA(site)]!
      return sum(base, scale(at(site).factor, lowRank(b, down as Tensor2D)))
    },
  }
}
