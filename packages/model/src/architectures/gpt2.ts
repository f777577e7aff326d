import { type Architecture, biased, outputOf, reader } from './architecture.ts'
import { headsOf } from './llama.ts'

/** Learned positions, LayerNorm, q, k and v in one transposed matrix  —  Radford et al., 2019 */
export const gpt2: Architecture = {
  types: ['gpt2'],
  config: (source) => {
    const r = reader(source)
    r.only('scale_attn_by_inverse_layer_idx', false)
    r.only('scale_attn_weights', true)
    r.only('add_cross_attention', false)
    const layers = r.layers('n_layer')
    const sizes = headsOf(r.count('n_embd'), r.count('n_head'))
    const output = outputOf(source, { LMHeadModel: 'causal', Model: 'none' } as const)
    const base = output === 'none' ? '' : 'transformer.'
    const layer = `${base}h.{i}.`
    return {
      architecture: r.text('model_type'),
      vocabulary: r.count('vocab_size'),
      ...sizes,
      layers,
      hidden: r.count('n_inner', 4 * sizes.width),
      maxLength: r.count('n_positions', 1024),
      causal: true,
      norm: 'layer',
      eps: r.number('layer_norm_epsilon', 1e-5),
      normOffset: 0,
      placement: 'pre',
      activation: r.activation('activation_function', 'gelu_new'),
      gated: false,
      fused: true,
      positionOffset: 0,
      sliding: Array.from({ length: layers }, () => false),
      scale: sizes.headWidth ** -0.5,
      embedScale: 1,
      tied: r.flag('tie_word_embeddings', true),
      input: 'tokens',
      output,
      pooler: false,
      names: [
        { hf: `${base}wte.weight`, name: 'embed' },
        { hf: `${base}wpe.weight`, name: 'positions' },
        ...biased(`${layer}ln_1`, 'blocks.{i}.norm1'),
        ...biased(`${layer}attn.c_attn`, 'blocks.{i}.attn.qkv', 'transposed'),
        ...biased(`${layer}attn.c_proj`, 'blocks.{i}.attn.o', 'transposed'),
        ...biased(`${layer}ln_2`, 'blocks.{i}.norm2'),
        ...biased(`${layer}mlp.c_fc`, 'blocks.{i}.mlp.up', 'transposed'),
        ...biased(`${layer}mlp.c_proj`, 'blocks.{i}.mlp.down', 'transposed'),
        ...biased(`${base}ln_f`, 'norm'),
        ...(base ? [{ hf: 'lm_head.weight', name: 'head' }] : []),
      ],
      source,
    }
  },
  aliases: [
    ['transformer.', ''],
    ['', 'transformer.'],
  ],
}
