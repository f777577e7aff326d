import type { Config } from '@weftjs/spec'
import type { Rope, TransformerConfig } from '../config.ts'
import { type Architecture, type Name, perLayer, reader } from './architecture.ts'

/** rope settings of transformers 5 (`rope_parameters`) and of earlier versions (`rope_theta`, `rope_scaling`) */
export const ropeOf = (source: Config, theta = 10_000): Rope => {
  const r = reader(source)
  const given = r.record('rope_parameters') ?? r.record('rope_scaling')
  const base = given && typeof given['rope_theta'] === 'number' ? given['rope_theta'] : r.number('rope_theta', theta)
  return { theta: base, ...(given && { scaling: given }) }
}

/** what Llama, Mistral, Qwen and Gemma have in common */
export const decoderConfig = (source: Config): TransformerConfig => {
  const r = reader(source)
  const width = r.number('hidden_size')
  const heads = r.number('num_attention_heads')
  const headWidth = r.maybe('head_dim') ?? width / heads
  const layers = r.number('num_hidden_layers')
  return {
    architecture: r.text('model_type'),
    vocabulary: r.number('vocab_size'),
    width,
    layers,
    heads,
    kvHeads: r.number('num_key_value_heads', heads),
    headWidth,
    hidden: r.number('intermediate_size'),
    maxLength: r.number('max_position_embeddings', 2048),
    causal: true,
    norm: 'rms',
    eps: r.number('rms_norm_eps', 1e-6),
    normOffset: 0,
    placement: 'pre',
    activation: 'silu',
    gated: true,
    fused: false,
    rope: ropeOf(source),
    sliding: Array.from({ length: layers }, () => false),
    scale: headWidth ** -0.5,
    embedScale: 1,
    tied: r.flag('tie_word_embeddings', false),
    input: 'tokens',
    output: 'causal',
    source,
  }
}

export const decoderNames = (c: TransformerConfig): Name[] => [
  { hf: 'model.embed_tokens.weight', name: 'embed' },
  ...perLayer(c.layers, [
    { hf: 'model.layers.{i}.input_layernorm.weight', name: 'blocks.{i}.norm1' },
    ...(['q', 'k', 'v', 'o'] as const).flatMap((n): Name[] => [
      { hf: `model.layers.{i}.self_attn.${n}_proj.weight`, name: `blocks.{i}.attn.${n}` },
      { hf: `model.layers.{i}.self_attn.${n}_proj.bias`, name: `blocks.{i}.attn.${n}.bias`, optional: true },
    ]),
    ...(['q', 'k'] as const).map(
      (n): Name => ({
        hf: `model.layers.{i}.self_attn.${n}_norm.weight`,
        name: `blocks.{i}.attn.${n}norm`,
        optional: true,
      }),
    ),
    { hf: 'model.layers.{i}.post_attention_layernorm.weight', name: 'blocks.{i}.norm2' },
    ...(['gate', 'up', 'down'] as const).flatMap((n): Name[] => [
      { hf: `model.layers.{i}.mlp.${n}_proj.weight`, name: `blocks.{i}.mlp.${n}` },
      { hf: `model.layers.{i}.mlp.${n}_proj.bias`, name: `blocks.{i}.mlp.${n}.bias`, optional: true },
    ]),
  ]),
  { hf: 'model.norm.weight', name: 'norm' },
  ...(c.tied ? [] : [{ hf: 'lm_head.weight', name: 'head' }]),
]

/** Llama 1 to 3, SmolLM2, and whatever else calls itself so */
export const llama: Architecture = { types: ['llama'], config: decoderConfig, names: decoderNames }
