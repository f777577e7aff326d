import type { Config } from '@weftjs/spec'
import type { TransformerConfig } from '../config.ts'
import { type Architecture, reader } from './architecture.ts'
import { checked, decoderAliases, decoderConfig } from './llama.ts'
import { expertNames, expertsOf } from './mixtral.ts'
import { slidingLayers } from './qwen2.ts'
import { qwen3 } from './qwen3.ts'

/** Qwen's experts: in every `decoder_sparse_step`-th layer, but for those that `mlp_only_layers` names */
const withExperts = (
  c: TransformerConfig,
  source: Config,
  defaults: { readonly count: number; readonly active: number; readonly hidden: number; readonly shared?: number },
): TransformerConfig => {
  const r = reader(source)
  const step = r.count('decoder_sparse_step', 1)
  const plain = source['mlp_only_layers'] ?? []
  if (!Array.isArray(plain) || plain.some((n) => !Number.isInteger(n)))
    throw new Error(`config.json: mlp_only_layers must be a list of layers, found ${JSON.stringify(plain)}`)
  const count = r.count(source['num_experts'] === undefined ? 'num_local_experts' : 'num_experts', defaults.count)
  const experts = expertsOf(
    source,
    {
      count,
      hidden: r.count('moe_intermediate_size', defaults.hidden),
      layers: Array.from({ length: c.layers }, (_, i) => !plain.includes(i) && (i + 1) % step === 0),
      normalized: r.flag('norm_topk_prob', false),
      ...(defaults.shared && { shared: r.count('shared_expert_intermediate_size', defaults.shared) }),
    },
    r.count('num_experts_per_tok', defaults.active),
  )
  const parts = ['gate_proj', 'up_proj', 'down_proj'] as const
  return { ...c, experts, names: expertNames(c.names, experts, { module: 'mlp', parts }), source }
}

/** Qwen 3 with experts  —  Yang et al., arXiv:2505.09388 */
export const qwen3Moe: Architecture = {
  types: ['qwen3_moe'],
  config: (source) => {
    // here the width of a head is hidden_size / num_attention_heads unless the config says otherwise
    const width = reader(source).count('hidden_size') / reader(source).count('num_attention_heads')
    const c = qwen3.config({
      ...source,
      head_dim: source['head_dim'] ?? width,
      max_window_layers: 0,
      layer_types: null,
    })
    return withExperts(c, source, { count: 128, active: 8, hidden: 768 })
  },
  aliases: decoderAliases,
}

/** Qwen 2 with experts, one of which sees every token  —  Yang et al., arXiv:2407.10671 */
export const qwen2Moe: Architecture = {
  types: ['qwen2_moe'],
  config: (source) => {
    const r = reader(source)
    const biases = r.flag('qkv_bias', true) ? ['attn.q', 'attn.k', 'attn.v'] : []
    const c = checked(decoderConfig(source, { biases }))
    const full = r.number('max_window_layers', 28)
    // every other layer sees a window, below `max_window_layers`
    const window = r.flag('use_sliding_window', false) && {
      window: r.count('sliding_window', 4096),
      sliding: slidingLayers(source, c.layers, (i) => i % 2 === 0 && i < full),
    }
    return withExperts({ ...c, ...window }, source, { count: 60, active: 4, hidden: 1408, shared: 5632 })
  },
  aliases: decoderAliases,
}
