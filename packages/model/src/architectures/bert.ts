import type { Config } from '@weftjs/spec'
import type { TransformerConfig } from '../config.ts'
import { type Architecture, biased, classesOf, type Name, outputOf, reader } from './architecture.ts'
import { headsOf } from './llama.ts'

export interface EncoderParts {
  /** what comes before the encoder's own tensors in a model with a head */
  readonly prefix: string
  /** row of the first position */
  readonly positionOffset: number
  readonly head: Readonly<Record<'masked' | 'classes', readonly Name[]>>
}

/** what BERT and RoBERTa have in common: norms after each half, learned positions and types */
export const encoderConfig = (source: Config, { prefix, positionOffset, head }: EncoderParts): TransformerConfig => {
  const r = reader(source)
  r.only('is_decoder', false)
  r.only('add_cross_attention', false)
  r.only('position_embedding_type', 'absolute')
  const layers = r.layers('num_hidden_layers')
  const sizes = headsOf(r.count('hidden_size'), r.count('num_attention_heads'))
  const output = outputOf(source, {
    Model: 'pooled',
    ForMaskedLM: 'masked',
    ForPreTraining: 'masked',
    ForSequenceClassification: 'classes',
  } as const)
  const rows = r.count('max_position_embeddings', 512)
  const base = output === 'pooled' ? '' : prefix
  const layer = `${base}encoder.layer.{i}.`
  return {
    architecture: r.text('model_type'),
    vocabulary: r.count('vocab_size'),
    ...sizes,
    layers,
    hidden: r.count('intermediate_size'),
    maxLength: rows - positionOffset,
    causal: false,
    norm: 'layer',
    eps: r.number('layer_norm_eps', 1e-12),
    normOffset: 0,
    placement: 'post',
    activation: r.activation('hidden_act', 'gelu'),
    gated: false,
    fused: false,
    positionOffset,
    types: r.count('type_vocab_size', 2),
    sliding: Array.from({ length: layers }, () => false),
    scale: sizes.headWidth ** -0.5,
    embedScale: 1,
    tied: output === 'masked' && r.flag('tie_word_embeddings', true),
    input: 'tokens',
    output,
    pooler: output !== 'masked',
    ...(output === 'classes' && { classes: classesOf(source) }),
    names: [
      { hf: `${base}embeddings.word_embeddings.weight`, name: 'embed' },
      { hf: `${base}embeddings.position_embeddings.weight`, name: 'positions' },
      { hf: `${base}embeddings.token_type_embeddings.weight`, name: 'types' },
      ...biased(`${base}embeddings.LayerNorm`, 'embed.norm'),
      ...biased(`${layer}attention.self.query`, 'blocks.{i}.attn.q'),
      ...biased(`${layer}attention.self.key`, 'blocks.{i}.attn.k'),
      ...biased(`${layer}attention.self.value`, 'blocks.{i}.attn.v'),
      ...biased(`${layer}attention.output.dense`, 'blocks.{i}.attn.o'),
      ...biased(`${layer}attention.output.LayerNorm`, 'blocks.{i}.norm1'),
      ...biased(`${layer}intermediate.dense`, 'blocks.{i}.mlp.up'),
      ...biased(`${layer}output.dense`, 'blocks.{i}.mlp.down'),
      ...biased(`${layer}output.LayerNorm`, 'blocks.{i}.norm2'),
      // some base models are saved without the pooler that nothing of theirs reads
      ...(output === 'pooled' ? biased('pooler.dense', 'pooler').map((n) => ({ ...n, optional: true })) : head[output]),
    ],
    source,
  }
}

/** —  Devlin et al., arXiv:1810.04805 */
export const bert: Architecture = {
  types: ['bert'],
  config: (source) =>
    encoderConfig(source, {
      prefix: 'bert.',
      positionOffset: 0,
      head: {
        masked: [
          ...biased('cls.predictions.transform.dense', 'head.dense'),
          ...biased('cls.predictions.transform.LayerNorm', 'head.norm'),
          { hf: 'cls.predictions.decoder.weight', name: 'head' },
          { hf: 'cls.predictions.bias', name: 'head.bias' },
        ],
        classes: [...biased('bert.pooler.dense', 'pooler'), ...biased('classifier', 'head')],
      },
    }),
  aliases: [
    ['bert.', ''],
    ['', 'bert.'],
    // names that the first checkpoints kept from TensorFlow
    ['LayerNorm.weight', 'LayerNorm.gamma'],
    ['LayerNorm.bias', 'LayerNorm.beta'],
    ['cls.predictions.bias', 'cls.predictions.decoder.bias'],
  ],
}
