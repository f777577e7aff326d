import { type Architecture, biased, classesOf, outputOf, reader } from './architecture.ts'
import { headsOf } from './llama.ts'

/** Patches as tokens behind a class token, norms before each half  —  Dosovitskiy et al., arXiv:2010.11929 */
export const vit: Architecture = {
  types: ['vit'],
  config: (source) => {
    const r = reader(source)
    r.only('pooler_act', 'tanh')
    const layers = r.layers('num_hidden_layers')
    const sizes = headsOf(r.count('hidden_size'), r.count('num_attention_heads'))
    const output = outputOf(source, { ForImageClassification: 'classes', Model: 'pooled' } as const)
    const image = {
      size: r.count('image_size', 224),
      patch: r.count('patch_size', 16),
      channels: r.count('num_channels', 3),
    }
    if (image.size % image.patch)
      throw new Error(`config.json: patch_size (${image.patch}) must divide image_size (${image.size})`)
    const base = output === 'pooled' ? '' : 'vit.'
    const layer = `${base}encoder.layer.{i}.`
    const qkv = (hf: string, name: string) => biased(hf, name).slice(0, r.flag('qkv_bias', true) ? 2 : 1)
    return {
      architecture: r.text('model_type'),
      vocabulary: 0,
      ...sizes,
      layers,
      hidden: r.count('intermediate_size'),
      maxLength: (image.size / image.patch) ** 2 + 1,
      causal: false,
      norm: 'layer',
      eps: r.number('layer_norm_eps', 1e-12),
      normOffset: 0,
      placement: 'pre',
      activation: r.activation('hidden_act', 'gelu'),
      gated: false,
      fused: false,
      positionOffset: 0,
      sliding: Array.from({ length: layers }, () => false),
      scale: sizes.headWidth ** -0.5,
      embedScale: 1,
      tied: false,
      input: 'patches',
      output,
      pooler: output === 'pooled',
      ...(output === 'classes' && { classes: classesOf(source) }),
      image,
      names: [
        ...biased(`${base}embeddings.patch_embeddings.projection`, 'embed').map((n) =>
          n.name === 'embed' ? { ...n, layout: 'patches' as const } : n,
        ),
        { hf: `${base}embeddings.cls_token`, name: 'cls', layout: 'batched' },
        { hf: `${base}embeddings.position_embeddings`, name: 'positions', layout: 'batched' },
        ...biased(`${layer}layernorm_before`, 'blocks.{i}.norm1'),
        ...qkv(`${layer}attention.attention.query`, 'blocks.{i}.attn.q'),
        ...qkv(`${layer}attention.attention.key`, 'blocks.{i}.attn.k'),
        ...qkv(`${layer}attention.attention.value`, 'blocks.{i}.attn.v'),
        ...biased(`${layer}attention.output.dense`, 'blocks.{i}.attn.o'),
        ...biased(`${layer}layernorm_after`, 'blocks.{i}.norm2'),
        ...biased(`${layer}intermediate.dense`, 'blocks.{i}.mlp.up'),
        ...biased(`${layer}output.dense`, 'blocks.{i}.mlp.down'),
        ...biased(`${base}layernorm`, 'norm'),
        ...(output === 'classes'
          ? biased('classifier', 'head')
          : biased('pooler.dense', 'pooler').map((n) => ({ ...n, optional: true }))),
      ],
      source,
    }
  },
  aliases: [
    ['vit.', ''],
    ['', 'vit.'],
  ],
}
