import type { Config } from '@weftjs/spec'
import { type GgufFamily, ggufFamilies } from './families.ts'
import type { GgufField, GgufScalar, GgufScalarType } from './field.ts'

/** what the layout of the tensors follows from */
export interface GgufSizes {
  readonly family: GgufFamily
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly headWidth: number
  /** of a mixture: how many, how wide, and what they read */
  readonly experts?: { readonly count: number; readonly hidden: number; readonly width: number }
}

const fail = (key: string, found: string): never => {
  throw new Error(`config.json: ${key}: ${found}`)
}
const record = (value: unknown): Config | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Config) : undefined

const reader = (config: Config) => {
  const number = (key: string, fallback?: number): number => {
    const value = config[key] ?? fallback
    return typeof value === 'number' ? value : fail(key, `must be a number, found ${JSON.stringify(value)}`)
  }
  return {
    number,
    maybe: (key: string): number | undefined => (typeof config[key] === 'number' ? config[key] : undefined),
  }
}

/** the part of a multimodal config.json that is about text */
export const textConfigOf = (config: Config): Config => ({ ...config, ...record(config['text_config']) })

/** @throws Error for a family that llama.cpp's files are not made for here */
export const familyOf = (config: Config): GgufFamily => {
  const type = config['model_type']
  const found = ggufFamilies.find(({ model, also }) => model === type || also.includes(String(type)))
  return (
    found ??
    fail(
      'model_type',
      `${JSON.stringify(type)} is not exported to GGUF; ${ggufFamilies.flatMap((f) => [f.model, ...f.also]).join(', ')} are`,
    )
  )
}

/** fields that a later version of transformers names otherwise */
const OTHER: Readonly<Record<string, string>> = { num_local_experts: 'num_experts', num_experts: 'num_local_experts' }

/** Gemma's heads are 256 wide where nothing is said, others' divide the width */
export const sizesOf = (config: Config): GgufSizes => {
  const family = familyOf(config)
  const c = textConfigOf(config)
  const r = reader(c)
  const heads = r.number('num_attention_heads')
  const width = r.number('hidden_size')
  const { experts } = family
  return {
    ...(experts && {
      experts: {
        count: r.number(experts.count, r.maybe(OTHER[experts.count]!)),
        hidden: r.number(experts.hidden),
        width,
      },
    }),
    family,
    layers: r.number('num_hidden_layers'),
    heads,
    kvHeads: r.number('num_key_value_heads', heads),
    headWidth: r.maybe('head_dim') ?? (family.normOffset ? 256 : width / heads),
  }
}

interface Rope {
  readonly theta: number
  readonly scaling: Config | undefined
  readonly local: number | undefined
}
const ropeOf = (c: Config, gemma3: boolean): Rope => {
  const given = record(c['rope_parameters'])
  const full = record(given?.['full_attention'])
  const scaling = full ?? given ?? record(c['rope_scaling'])
  const type = scaling?.['rope_type'] ?? scaling?.['type'] ?? 'default'
  const sliding = record(given?.['sliding_attention'])
  const theta = (scaling?.['rope_theta'] ?? c['rope_theta'] ?? (gemma3 ? 1_000_000 : 10_000)) as number
  return {
    theta,
    scaling: type === 'default' ? undefined : { ...scaling, rope_type: type },
    local: gemma3 ? ((sliding?.['rope_theta'] ?? c['rope_local_base_freq'] ?? 10_000) as number) : undefined,
  }
}

/** factors of the wavelengths [S/2] under the rule of Llama 3, which these files have as a tensor */
export const llama3Factors = (scaling: Config, theta: number, headWidth: number): Float32Array => {
  const r = reader(scaling)
  const [factor, low, high] = [r.number('factor'), r.number('low_freq_factor'), r.number('high_freq_factor')]
  const from = r.number('original_max_position_embeddings')
  return Float32Array.from({ length: headWidth / 2 }, (_, i) => {
    const wave = 2 * Math.PI * theta ** ((2 * i) / headWidth)
    if (wave < from / high) return 1
    if (wave > from / low) return factor
    const smooth = (from / wave - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)
  })
}

/** the layers that see a window, by llama.cpp's rule: of every n, all but the last */
const periodOf = (c: Config, layers: number, standard: number): number => {
  const types = c['layer_types']
  if (!Array.isArray(types))
    return reader(c).number('sliding_window_pattern', reader(c).number('_sliding_window_pattern', standard))
  const sliding = types.map((t) => t === 'sliding_attention')
  for (let n = 1; n <= layers + 1; n++) if (sliding.every((s, i) => s === i % n < n - 1)) return n
  return fail(
    'layer_types',
    'llama.cpp has every n-th layer see all and the others a window, and these differ from that',
  )
}

/**
 * What llama.cpp has to know of a model, under its keys, and the factors of its rotary embedding where they are a tensor.
 * @throws Error that names the field of config.json for what llama.cpp would compute otherwise
 */
export const metadataOf = (
  config: Config,
  vocabulary: number,
): { fields: readonly (readonly [string, GgufField])[]; ropeFactors?: Float32Array } => {
  const { family, layers, heads, kvHeads, headWidth, experts } = sizesOf(config)
  const { arch, normOffset } = family
  const c = textConfigOf(config)
  const r = reader(c)
  const fields: [string, GgufField][] = []
  const put = (key: string, type: GgufScalarType, value: GgufScalar): void => {
    fields.push([`${arch}.${key}`, { type, value }])
  }
  const rope = ropeOf(c, arch === 'gemma3')
  const used = c['use_sliding_window'] !== false || normOffset === 1
  const window = used ? r.maybe('sliding_window') : undefined
  const length = r.number('max_position_embeddings', 2048)
  const isLocal = arch === 'gemma2' || arch === 'gemma3'
  put('block_count', 'u32', layers)
  // llama.cpp lets these see everything: within the window that is the same
  put('context_length', 'u32', window !== undefined && !isLocal ? Math.min(length, window) : length)
  put('embedding_length', 'u32', r.number('hidden_size'))
  put('feed_forward_length', 'u32', r.number('intermediate_size', r.maybe('moe_intermediate_size')))
  if (experts) {
    put('expert_count', 'u32', experts.count)
    put('expert_used_count', 'u32', r.number('num_experts_per_tok'))
    if (arch !== 'llama') put('expert_feed_forward_length', 'u32', experts.hidden)
    if (arch === 'qwen2moe')
      put('expert_shared_feed_forward_length', 'u32', r.number('shared_expert_intermediate_size'))
    const plain = c['mlp_only_layers']
    if (r.number('decoder_sparse_step', 1) !== 1 || (Array.isArray(plain) && plain.length))
      fail('mlp_only_layers', `llama.cpp has experts in every layer of ${arch}`)
    const { normalized } = family.experts!
    if (arch !== 'llama' && (c['norm_topk_prob'] ?? false) !== normalized)
      fail('norm_topk_prob', `llama.cpp computes ${arch} as if it were ${normalized}`)
  }
  put('attention.head_count', 'u32', heads)
  put('attention.head_count_kv', 'u32', kvHeads)
  put('attention.key_length', 'u32', headWidth)
  put('attention.value_length', 'u32', headWidth)
  put('attention.layer_norm_rms_epsilon', 'f32', r.number('rms_norm_eps', 1e-6))
  put('vocab_size', 'u32', vocabulary)
  put('rope.freq_base', 'f32', rope.theta)
  if (family.permuted) put('rope.dimension_count', 'u32', headWidth)

  const activation = c['hidden_activation'] ?? c['hidden_act']
  const wanted = normOffset ? /^gelu/ : /^(silu|swish)$/
  if (activation !== undefined && activation !== null && !wanted.test(String(activation)))
    fail(
      'hidden_act',
      `llama.cpp computes ${normOffset ? 'gelu' : 'silu'} in ${arch}, found ${JSON.stringify(activation)}`,
    )
  if (isLocal) {
    const standard = arch === 'gemma2' ? 2 : 6
    const period = periodOf(c, layers, standard)
    put('attention.sliding_window', 'u32', window ?? 4096)
    if (period !== standard) put('attention.sliding_window_pattern', 'u32', period)
    if (arch === 'gemma3') put('rope.freq_base_swa', 'f32', rope.local!)
    const big = layers === (arch === 'gemma2' ? 46 : 62)
    const scalar = r.number('query_pre_attn_scalar', 256)
    const computed = big ? r.number('hidden_size') / heads : headWidth
    if (scalar !== computed) fail('query_pre_attn_scalar', `is ${scalar}, and llama.cpp computes with ${computed} here`)
    const cap = (key: string, fallback: number): number | undefined => (key in c ? r.maybe(key) : fallback)
    const caps = arch === 'gemma2' ? [cap('attn_logit_softcapping', 50), cap('final_logit_softcapping', 30)] : []
    if (arch === 'gemma2') {
      if (caps.includes(undefined)) fail('attn_logit_softcapping', 'llama.cpp caps both attention and logits in gemma2')
      put('attn_logit_softcapping', 'f32', caps[0]!)
      put('final_logit_softcapping', 'f32', caps[1]!)
    } else if (r.maybe('attn_logit_softcapping') ?? r.maybe('final_logit_softcapping'))
      fail('attn_logit_softcapping', 'llama.cpp caps nothing in gemma3')
  }
  const scaling = rope.scaling
  if (!scaling) return { fields }
  const type = scaling['rope_type']
  const s = reader(scaling)
  if (type === 'llama3' && family.permuted)
    return { fields, ropeFactors: llama3Factors(scaling, rope.theta, headWidth) }
  if (type === 'dynamic') return { fields } // changes nothing up to max_position_embeddings
  if (type === 'linear' || type === 'yarn') {
    put('rope.scaling.type', 'string', type)
    put('rope.scaling.factor', 'f32', s.number('factor'))
    if (type === 'yarn') {
      const odd = ['attention_factor', 'mscale', 'mscale_all_dim', 'beta_fast', 'beta_slow'].find(
        (k) => s.maybe(k) !== undefined && s.maybe(k) !== { beta_fast: 32, beta_slow: 1 }[k],
      )
      if (odd) fail(`rope_parameters.${odd}`, 'is not written to GGUF; llama.cpp computes yarn with its defaults')
      put('rope.scaling.original_context_length', 'u32', s.number('original_max_position_embeddings', length))
    }
    return { fields }
  }
  return fail('rope_parameters', `rope_type ${JSON.stringify(type)} is not computed by llama.cpp in ${arch}`)
}
