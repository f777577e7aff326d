import type { Config } from '@weftjs/spec'
import type { Rope, TransformerConfig } from '../config.ts'
import { type Architecture, reader } from './architecture.ts'
import { gemmaConfig } from './gemma.ts'
import { checked, decoderAliases, ropeOf } from './llama.ts'
import { slidingLayers } from './qwen2.ts'

/** `rope_parameters` by kind of layer (transformers 5), or `rope_theta` with `rope_scaling`, and `rope_local_base_freq` */
const ropes = (source: Config): { rope: Rope; ropeLocal: Rope } => {
  const r = reader(source)
  const parameters = r.record('rope_parameters')
  const kind = (key: string): Config | undefined => parameters && reader(parameters).record(key)
  const [full, sliding] = [kind('full_attention'), kind('sliding_attention')]
  return {
    rope: ropeOf(full ? { rope_parameters: full } : source, 1_000_000),
    ropeLocal: sliding ? ropeOf({ rope_parameters: sliding }) : { theta: r.number('rope_local_base_freq', 10_000) },
  }
}

const textConfig = (source: Config): TransformerConfig => {
  const r = reader(source)
  const { rope_parameters: _, ...plain } = source
  const c = gemmaConfig(plain, { sandwich: true, qkNorm: true })
  const every = r.count('sliding_window_pattern', r.count('_sliding_window_pattern', 6))
  const softcap = r.maybe('attn_logit_softcapping')
  const logitSoftcap = r.maybe('final_logit_softcapping')
  return checked({
    ...c,
    ...ropes(source),
    scale: r.number('query_pre_attn_scalar', 256) ** -0.5,
    window: r.count('sliding_window', 4096),
    sliding: slidingLayers(source, c.layers, (i) => (i + 1) % every !== 0),
    ...(softcap !== undefined && { softcap }),
    ...(logitSoftcap !== undefined && { logitSoftcap }),
    source,
  })
}

/** Gemma 2 without caps, with norms on q and k and two rotary bases  —  Gemma Team, arXiv:2503.19786 */
export const gemma3: Architecture = { types: ['gemma3_text'], config: textConfig, aliases: decoderAliases }

/** what the library takes for granted in the `text_config` of a multimodal checkpoint */
const DEFAULTS: Config = {
  vocab_size: 262_208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  max_position_embeddings: 131_072,
}

/**
 * The language model of a multimodal Gemma 3; its image tower is left out, and it is saved as a `gemma3_text` checkpoint
 * of its own.
 */
export const gemma3Multimodal: Architecture = {
  types: ['gemma3'],
  config: (source) =>
    textConfig({
      ...DEFAULTS,
      ...reader(source).record('text_config'),
      model_type: 'gemma3_text',
      architectures: ['Gemma3ForCausalLM'],
      ...Object.fromEntries(
        ['bos_token_id', 'eos_token_id', 'pad_token_id', 'dtype', 'torch_dtype', 'quantization_config']
          .filter((key) => source[key] !== undefined)
          .map((key) => [key, source[key]]),
      ),
    }),
  // before transformers 4.52, and since
  aliases: [
    ['model.', 'language_model.model.'],
    ['lm_head.', 'language_model.lm_head.'],
    ['model.', 'model.language_model.'],
  ],
}
