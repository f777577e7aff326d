import { type Architecture, reader } from './architecture.ts'
import { gemmaConfig } from './gemma.ts'
import { checked, decoderAliases } from './llama.ts'
import { slidingLayers } from './qwen2.ts'

/** Gemma with norms around both halves, soft caps, and a window in every other layer  —  Gemma Team, arXiv:2408.00118 */
export const gemma2: Architecture = {
  types: ['gemma2'],
  config: (source) => {
    const r = reader(source)
    const c = gemmaConfig(source, { sandwich: true })
    // a null switches a cap off; a missing field is the model's default
    const cap = (key: string, value: number): number | undefined => (key in source ? r.maybe(key) : value)
    const softcap = cap('attn_logit_softcapping', 50)
    const logitSoftcap = cap('final_logit_softcapping', 30)
    return checked({
      ...c,
      scale: r.number('query_pre_attn_scalar', 256) ** -0.5,
      window: r.count('sliding_window', 4096),
      sliding: slidingLayers(source, c.layers, (i) => i % 2 === 0),
      ...(softcap !== undefined && { softcap }),
      ...(logitSoftcap !== undefined && { logitSoftcap }),
    })
  },
  aliases: decoderAliases,
}
