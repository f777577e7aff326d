import type { Config } from '@weftjs/spec'
import type { Rope, TransformerConfig } from '../config.ts'
import { frequencies } from '../rope.ts'
import { type Architecture, classesOf, type Name, outputOf, reader } from './architecture.ts'

/** rope settings of transformers 5 (`rope_parameters`) and of earlier versions (`rope_theta`, `rope_scaling`) */
export const ropeOf = (source: Config, theta = 10_000): Rope => {
  const r = reader(source)
  const given = r.record('rope_parameters') ?? r.record('rope_scaling')
  for (const from of [source, given ?? {}]) reader(from).only('partial_rotary_factor', 1)
  const base = given?.['rope_theta'] === undefined ? r.number('rope_theta', theta) : reader(given).number('rope_theta')
  if (!(base > 0)) throw new Error(`config.json: rope_theta must be positive, found ${base}`)
  return { theta: base, ...(given && { scaling: given }) }
}

/** @throws Error that names the field, for a head that cannot be rotated or a scaling rule that cannot be read */
export const checkRope = (rope: Rope, headWidth: number, maxLength: number): Rope => {
  if (headWidth % 2) throw new Error(`config.json: head_dim must be even for rotary embedding, found ${headWidth}`)
  try {
    frequencies(rope, headWidth, maxLength, maxLength)
  } catch (error) {
    throw new Error(`config.json: ${(error as Error).message}`)
  }
  return rope
}

const WIDEST = 65_536

/** sizes that every architecture states, and checks that the head count goes into them */
export const headsOf = (
  width: number,
  heads: number,
  kvHeads: number = heads,
  headDim?: number,
): Pick<TransformerConfig, 'width' | 'heads' | 'kvHeads' | 'headWidth'> => {
  const headWidth = headDim ?? width / heads
  if (!Number.isInteger(headWidth) || headWidth < 1)
    throw new Error(
      `config.json: ${heads} heads do not divide a width of ${width}; check num_attention_heads, head_dim`,
    )
  if (headWidth > WIDEST)
    throw new Error(`config.json: heads are ${headWidth} wide, more than ${WIDEST}; check head_dim, hidden_size`)
  if (heads % kvHeads)
    throw new Error(
      `config.json: num_key_value_heads (${kvHeads}) must divide num_attention_heads (${heads}); check both`,
    )
  return { width, heads, kvHeads, headWidth }
}

export interface DecoderParts {
  /** matrices with a bias: `attn.q`, `mlp.up` */
  readonly biases?: readonly string[]
  /** scales on q and k, a head at a time */
  readonly qkNorm?: boolean
  /** Gemma's four norms of a block */
  readonly sandwich?: boolean
  readonly tied?: boolean
}

/** what Llama, Mistral, Qwen and Gemma have in common */
export const decoderConfig = (
  source: Config,
  { tied = false, ...parts }: DecoderParts = {},
): TransformerConfig & { readonly rope: Rope } => {
  const r = reader(source)
  const sizes = headsOf(
    r.count('hidden_size'),
    r.count('num_attention_heads'),
    r.count('num_key_value_heads', r.count('num_attention_heads')),
    r.maybe('head_dim'),
  )
  const layers = r.layers('num_hidden_layers')
  const maxLength = r.count('max_position_embeddings', 2048)
  const output = outputOf(source, {
    ForCausalLM: 'causal',
    ForSequenceClassification: 'classes',
    ForTokenClassification: 'labels',
    Model: 'none',
  } as const)
  const labelled = output === 'classes' || output === 'labels'
  return {
    architecture: r.text('model_type'),
    vocabulary: r.count('vocab_size'),
    ...sizes,
    layers,
    hidden: r.count('intermediate_size'),
    maxLength,
    causal: r.flag('is_causal', true),
    norm: 'rms',
    eps: r.number('rms_norm_eps', 1e-6),
    normOffset: 0,
    placement: parts.sandwich ? 'sandwich' : 'pre',
    activation: r.activation('hidden_act', 'silu'),
    gated: true,
    fused: false,
    rope: ropeOf(source),
    sliding: Array.from({ length: layers }, () => false),
    scale: sizes.headWidth ** -0.5,
    embedScale: 1,
    tied: !labelled && r.flag('tie_word_embeddings', tied),
    input: 'tokens',
    output,
    pooler: false,
    ...(labelled && { classes: classesOf(source) }),
    ...(output === 'classes' && { pooling: poolingOf(source) }),
    names: decoderNames(output === 'none' ? '' : 'model.', parts, headOf(source, output)),
    source,
  }
}

const POOLINGS = ['first', 'last', 'mean', 'max'] as const
/** transformers' own classifiers take the last token; `classifier_pooling` is ours where it is not that */
const poolingOf = (source: Config): (typeof POOLINGS)[number] => {
  const found = POOLINGS.find((p) => p === reader(source).text('classifier_pooling', 'last'))
  if (found) return found
  throw new Error(
    `config.json: classifier_pooling must be one of ${POOLINGS.join(', ')}, found ${JSON.stringify(source['classifier_pooling'])}`,
  )
}

const headOf = (source: Config, output: TransformerConfig['output']): readonly Name[] => {
  if (output === 'none') return []
  if (output === 'causal') return [{ hf: 'lm_head.weight', name: 'head' }]
  const biased = output === 'labels' && reader(source).flag('token_classification_bias', true)
  return [{ hf: 'score.weight', name: 'head' }, ...(biased ? [{ hf: 'score.bias', name: 'head.bias' }] : [])]
}

export const decoderNames = (
  base: string,
  { biases = [], qkNorm = false, sandwich = false }: DecoderParts,
  head: readonly Name[],
): Name[] => {
  const layer = `${base}layers.{i}.`
  const matrix = (hf: string, site: string): Name[] => [
    { hf: `${layer}${hf}.weight`, name: `blocks.{i}.${site}` },
    ...(biases.includes(site) ? [{ hf: `${layer}${hf}.bias`, name: `blocks.{i}.${site}.bias` }] : []),
  ]
  const scale = (hf: string, name: string): Name => ({ hf: `${layer}${hf}.weight`, name: `blocks.{i}.${name}` })
  return [
    { hf: `${base}embed_tokens.weight`, name: 'embed' },
    scale('input_layernorm', 'norm1'),
    ...['q', 'k', 'v', 'o'].flatMap((n) => matrix(`self_attn.${n}_proj`, `attn.${n}`)),
    ...(qkNorm ? [scale('self_attn.q_norm', 'attn.qnorm'), scale('self_attn.k_norm', 'attn.knorm')] : []),
    ...(sandwich
      ? [
          scale('post_attention_layernorm', 'norm1post'),
          scale('pre_feedforward_layernorm', 'norm2'),
          scale('post_feedforward_layernorm', 'norm2post'),
        ]
      : [scale('post_attention_layernorm', 'norm2')]),
    ...['gate', 'up', 'down'].flatMap((n) => matrix(`mlp.${n}_proj`, `mlp.${n}`)),
    { hf: `${base}norm.weight`, name: 'norm' },
    ...head,
  ]
}

/** base models are saved without `model.`, and some causal ones too */
export const decoderAliases: NonNullable<Architecture['aliases']> = [
  ['model.', ''],
  ['', 'model.'],
]

export const checked = <C extends TransformerConfig>(c: C): C => {
  for (const rope of [c.rope, c.ropeLocal]) if (rope) checkRope(rope, c.headWidth, c.maxLength)
  return c
}

/** Llama 1 to 3, SmolLM2, and whatever else calls itself so */
export const llama: Architecture = {
  types: ['llama'],
  config: (source) => {
    const r = reader(source)
    return checked(
      decoderConfig(source, {
        biases: [
          ...(r.flag('attention_bias', false) ? ['attn.q', 'attn.k', 'attn.v', 'attn.o'] : []),
          ...(r.flag('mlp_bias', false) ? ['mlp.gate', 'mlp.up', 'mlp.down'] : []),
        ],
      }),
    )
  },
  aliases: decoderAliases,
}
