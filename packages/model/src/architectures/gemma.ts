import type { Config } from '@weftjs/spec'
import type { Rope, TransformerConfig } from '../config.ts'
import { type Architecture, reader } from './architecture.ts'
import { checked, type DecoderParts, decoderAliases, decoderConfig } from './llama.ts'

/** what all Gemmas share: norms store scale − 1, embeddings grow by √D, heads of 256, tied, GELU gates */
export const gemmaConfig = (source: Config, parts: DecoderParts = {}): TransformerConfig & { readonly rope: Rope } => {
  const r = reader(source)
  // Gemma 1 writes `gelu` and means the approximation that it was trained with
  const activation = r.text('hidden_activation', r.text('hidden_act', 'gelu_pytorch_tanh'))
  const given = {
    ...source,
    head_dim: source['head_dim'] ?? 256,
    hidden_act: activation === 'gelu' ? 'gelu_pytorch_tanh' : activation,
  }
  const c = decoderConfig(given, {
    tied: true,
    biases: r.flag('attention_bias', false) ? ['attn.q', 'attn.k', 'attn.v', 'attn.o'] : [],
    ...parts,
  })
  r.only('use_bidirectional_attention', false)
  return { ...c, normOffset: 1, embedScale: Math.sqrt(c.width), source }
}

/** —  Gemma Team, arXiv:2403.08295 */
export const gemma: Architecture = {
  types: ['gemma'],
  config: (source) => checked(gemmaConfig(source)),
  aliases: decoderAliases,
}
