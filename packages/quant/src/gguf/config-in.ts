import type { Config } from '@weftjs/spec'
import { llama3Factors } from './config-out.ts'
import { type GgufExperts, type GgufFamily, ggufFamilies } from './families.ts'
import type { Fields } from './field.ts'

const MOST_LAYERS = 100_000
const MOST_EXPERTS = 65_536

/** what the tensors say of a model beside its metadata */
export interface GgufShapes {
  has(tensor: string): boolean
  /** rows of the embedding */
  readonly vocabulary: number
  /** values of rope_freqs.weight, where it is there */
  readonly ropeFactors: Float32Array | undefined
}

/** @throws CheckpointError for an architecture that this reader does not know */
export const familyIn = (fields: Fields): GgufFamily => {
  const arch = fields.text('general.architecture')
  const sparse = (fields.number(`${arch}.expert_count`) ?? 0) > 0
  const found = ggufFamilies.find((f) => f.arch === arch && (f.experts !== undefined) === sparse)
  return (
    found ??
    fields.fail(
      'general.architecture',
      `${JSON.stringify(arch)}${sparse ? ' with experts' : ''} is not supported; ${[...new Set(ggufFamilies.map((f) => f.arch))].join(', ')} are`,
    )
  )
}

/** the parameters of Llama 3's rule that a table of factors comes from; only the length varies among the models there are */
const llama3Of = (factors: Float32Array, theta: number, headWidth: number): Config | undefined => {
  const factor = factors.reduce((a, b) => Math.max(a, b), 1)
  for (const [low, high] of [
    [1, 4],
    [1, 1.5],
    [1, 2],
    [1, 8],
  ] as const)
    for (let length = 16; length <= 2 ** 20; length *= 2) {
      const scaling = {
        rope_type: 'llama3',
        factor,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings: length,
      }
      const made = llama3Factors(scaling, theta, headWidth)
      if (made.every((f, i) => Math.abs(f - factors[i]!) <= 1e-4 * f)) return scaling
    }
  return undefined
}

/** config.json of transformers, made from what a GGUF file says. @throws CheckpointError that names the field of the metadata */
export const configIn = (fields: Fields, family: GgufFamily, shapes: GgufShapes): Config => {
  const { arch, normOffset } = family
  const at = (key: string): string => `${arch}.${key}`
  const need = (key: string): number =>
    fields.uniform(at(key)) ?? fields.fail(at(key), 'is not there, and the model cannot be built without it')
  const heads = need('attention.head_count')
  const width = need('embedding_length')
  const headWidth =
    fields.number(at('attention.key_length')) ?? fields.number(at('rope.dimension_count')) ?? width / heads
  if (fields.has(at('rope.dimension_count')) && fields.number(at('rope.dimension_count')) !== headWidth)
    fields.fail(
      at('rope.dimension_count'),
      `is not the width of a head, ${headWidth}; partial rotary embedding is not supported`,
    )
  const theta = fields.number(at('rope.freq_base')) ?? 10_000
  const bias = (module: string): boolean => shapes.has(`blk.0.${module}.bias`)
  const length = need('context_length')
  const window = fields.uniform(at('attention.sliding_window'))
  const isLocal = arch === 'gemma2' || arch === 'gemma3'
  return {
    architectures: [family.architectures],
    model_type: family.model,
    vocab_size: shapes.vocabulary,
    hidden_size: width,
    intermediate_size: need('feed_forward_length'),
    num_hidden_layers: need('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: fields.uniform(at('attention.head_count_kv')) ?? heads,
    head_dim: headWidth,
    [normOffset ? 'hidden_activation' : 'hidden_act']: normOffset ? 'gelu_pytorch_tanh' : 'silu',
    max_position_embeddings: length,
    rms_norm_eps: need('attention.layer_norm_rms_epsilon'),
    rope_theta: theta,
    ...scalingIn(fields, at, shapes.ropeFactors, theta, headWidth),
    tie_word_embeddings: !shapes.has('output.weight'),
    attention_bias: arch !== 'qwen2' && bias('attn_q'),
    ...(arch === 'llama' && { mlp_bias: bias('ffn_gate') }),
    ...(isLocal && {
      sliding_window: window ?? 4096,
      query_pre_attn_scalar: need('block_count') === (arch === 'gemma2' ? 46 : 62) ? width / heads : headWidth,
    }),
    ...(arch === 'gemma2' && {
      attn_logit_softcapping: fields.number(at('attn_logit_softcapping')) ?? 50,
      final_logit_softcapping: fields.number(at('final_logit_softcapping')) ?? 30,
    }),
    ...(isLocal && { layer_types: layerTypes(fields, at, need('block_count'), arch === 'gemma2' ? 2 : 6) }),
    ...(arch === 'gemma3' && { rope_local_base_freq: fields.number(at('rope.freq_base_swa')) ?? 10_000 }),
    ...(family.experts && expertsIn(fields, family.experts, need)),
    dtype: 'float32',
  }
}

const expertsIn = (fields: Fields, experts: GgufExperts, need: (key: string) => number): Config => {
  const arch = fields.text('general.architecture')!
  const count = need('expert_count')
  if (!(Number.isInteger(count) && count <= MOST_EXPERTS))
    fields.fail(`${arch}.expert_count`, `is ${count}, more than ${MOST_EXPERTS}`)
  return {
    [experts.count]: count,
    num_experts_per_tok: need('expert_used_count'),
    ...(experts.count === 'num_experts' && {
      ...{ moe_intermediate_size: need('expert_feed_forward_length'), norm_topk_prob: experts.normalized },
      ...{ decoder_sparse_step: 1, mlp_only_layers: [] },
    }),
    ...(arch === 'qwen2moe' && { shared_expert_intermediate_size: need('expert_shared_feed_forward_length') }),
  }
}

/** the layers that see a window: of every n all but the last, or one by one */
const layerTypes = (
  fields: Fields,
  at: (key: string) => string,
  layers: number,
  standard: number,
): readonly string[] => {
  const key = at('attention.sliding_window_pattern')
  const each = fields.flags(key)
  if (each && each.length !== layers) fields.fail(key, `has ${each.length} values for ${layers} layers`)
  const period = each ? 1 : (fields.uniform(key) ?? standard)
  if (!(Number.isInteger(period) && period >= 1)) fields.fail(key, `is ${period}, not a number of layers`)
  if (layers > MOST_LAYERS) fields.fail(at('block_count'), `is ${layers}, more than ${MOST_LAYERS}`)
  return Array.from({ length: layers }, (_, i) =>
    (each?.[i] ?? i % period < period - 1) ? 'sliding_attention' : 'full_attention',
  )
}

const scalingIn = (
  fields: Fields,
  at: (key: string) => string,
  factors: Float32Array | undefined,
  theta: number,
  headWidth: number,
): { rope_scaling?: Config } => {
  const type = fields.text(at('rope.scaling.type')) ?? 'none'
  if (type === 'linear' || type === 'yarn') {
    const factor = fields.number(at('rope.scaling.factor')) ?? 1
    const from = fields.number(at('rope.scaling.original_context_length'))
    return {
      rope_scaling: {
        rope_type: type,
        factor,
        ...(type === 'yarn' && from !== undefined && { original_max_position_embeddings: from }),
      },
    }
  }
  if (type !== 'none')
    fields.fail(at('rope.scaling.type'), `${JSON.stringify(type)} is not supported; linear and yarn are`)
  const old = fields.number(at('rope.scale_linear'))
  if (old !== undefined && old !== 1) return { rope_scaling: { rope_type: 'linear', factor: old } }
  if (!factors || factors.every((f) => f === 1)) return {}
  const found = factors.length === headWidth / 2 ? llama3Of(factors, theta, headWidth) : undefined
  if (!found)
    fields.fail(
      'rope_freqs.weight',
      'its factors come from no rule that config.json can state; load the safetensors checkpoint',
    )
  return { rope_scaling: found! }
}
