import { type Architecture, reader } from './architecture.ts'
import { checked, decoderAliases, decoderConfig } from './llama.ts'
import { withWindow } from './qwen2.ts'

/** Llama with RMSNorm on the heads of q and k  —  Yang et al., arXiv:2505.09388 */
export const qwen3: Architecture = {
  types: ['qwen3'],
  config: (source) => {
    const biases = reader(source).flag('attention_bias', false) ? ['attn.q', 'attn.k', 'attn.v', 'attn.o'] : []
    // heads are 128 wide unless the config says otherwise, whatever the width
    const given = { ...source, head_dim: source['head_dim'] ?? 128 }
    return checked({ ...withWindow(decoderConfig(given, { biases, qkNorm: true })), source })
  },
  aliases: decoderAliases,
}
