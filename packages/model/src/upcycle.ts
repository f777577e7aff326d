import type { Config, Network, Rng, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { clone, keep, tidy } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'
import { architectureOf, namesOf } from './architectures/index.ts'
import type { TransformerConfig } from './config.ts'
import { placeOf } from './places.ts'

export interface UpcycleOptions {
  /** k, experts that a token goes through */
  readonly active?: number
  /** layers that get experts, counted from 0; all by default, and Mixtral has no other way */
  readonly layers?: readonly number[]
}

/** the mixture whose layout a dense family's attention fits into */
const MIXTURES: Readonly<Record<string, readonly [type: string, name: string]>> = {
  llama: ['mixtral', 'Mixtral'],
  mistral: ['mixtral', 'Mixtral'],
  qwen3: ['qwen3_moe', 'Qwen3Moe'],
}

/** config.json of the mixture: what the two families have different defaults for is written out */
const sparser = (c: TransformerConfig, count: number, active: number, layers: readonly number[]): Config => {
  const [type, name] = MIXTURES[c.architecture]!
  const { attention_bias, mlp_bias: _, pretraining_tp: __, ...rest } = c.source
  const named = [c.source['architectures'] ?? `${name}ForCausalLM`].flat() as string[]
  const inRope = (c.source['rope_parameters'] as Config | undefined)?.['rope_theta'] !== undefined
  const plain = Array.from({ length: c.layers }, (_, i) => i).filter((i) => !layers.includes(i))
  return {
    ...rest,
    architectures: named.map((n) => n.replace(/^(Llama|Mistral|Qwen3)(?=For|Model)/, name)),
    model_type: type,
    head_dim: c.headWidth,
    num_key_value_heads: c.kvHeads,
    hidden_act: c.source['hidden_act'] ?? 'silu',
    rms_norm_eps: c.eps,
    max_position_embeddings: c.maxLength,
    tie_word_embeddings: c.tied,
    ...(c.rope && !inRope && { rope_theta: c.rope.theta }),
    num_experts_per_tok: active,
    router_aux_loss_coef: 0.01,
    output_router_logits: false,
    ...(type === 'mixtral'
      ? { num_local_experts: count, sliding_window: c.window ?? null }
      : {
          ...(attention_bias !== undefined && { attention_bias }),
          ...{ num_experts: count, moe_intermediate_size: c.hidden, norm_topk_prob: true },
          ...{ decoder_sparse_step: 1, mlp_only_layers: plain },
        }),
  }
}

/** the matrix that one of an expert is a copy of; for the router the nearest there is */
const denseName = (name: string): string => name.replace(/experts\.(\d+|\{e\})\./, '').replace(/router$/, 'gate')

/** @throws Error that names what the mixture would have otherwise than the dense model */
const checkSame = (before: TransformerConfig, after: TransformerConfig): void => {
  const fields = (c: TransformerConfig): Map<string, string> => {
    const { architecture: _, experts: __, names: ___, source: ____, ...rest } = c
    return new Map(Object.entries(rest).map(([k, v]) => [k, JSON.stringify(v)]))
  }
  const [a, b] = [fields(before), fields(after)]
  const odd = [...a.keys(), ...b.keys()].find((k) => a.get(k) !== b.get(k))
  if (odd !== undefined)
    throw new Error(
      `upcycle: ${odd} is ${a.get(odd) ?? 'not set'}, and a ${after.architecture} checkpoint makes it ${b.get(odd) ?? 'nothing'}; take a model without`,
    )
}

const checkedLayers = (c: TransformerConfig, layers: readonly number[], type: string): readonly number[] => {
  const odd = layers.find((i, at) => !Number.isInteger(i) || i < 0 || i >= c.layers || layers.indexOf(i) < at)
  if (odd !== undefined || !layers.length)
    throw new Error(
      `upcycle: layers must be different ones of the ${c.layers}, from 0, found ${odd ?? 'none'}; name each once`,
    )
  if (type === 'mixtral' && layers.length < c.layers)
    throw new Error(
      `upcycle: ${layers.length} of ${c.layers} layers, and a ${type} checkpoint has experts in all; leave layers out`,
    )
  return layers
}

/**
 * MLP(x) → Σₑ pₑ·MLPₑ(x) / Σₑ pₑ over the k largest pₑ of softmax(W_r·x), each MLPₑ a copy, W_r ~ N(0, 0.02²)  —  Komatsuzaki et al., arXiv:2212.05055
 *
 * A dense decoder as a mixture of experts (Llama and Mistral as Mixtral, Qwen 3 as Qwen 3 MoE), to be trained on. Since the
 * k probabilities are divided by their sum, it gives the dense model's logits until something trains. Copies share their
 * memory until then, and packed matrices for good. Deviation of the router: `initializer_range`, 0.02 by default. The
 * paper has experts in every other layer of a large model; here all layers get them unless `layers` says which. Training
 * wants a load-balancing loss, or a few experts take all tokens: `balance` of a pass.
 * @throws Error for a family without such a layout, tensors that it has no place for, and numbers out of range
 */
export const upcycle = (
  network: Network<TransformerConfig>,
  experts: number,
  rng: Rng,
  { active = 2, layers: asked }: UpcycleOptions = {},
): Network<TransformerConfig> => {
  const { config: c, weights, vectors } = network
  if (c.experts)
    throw new Error(`upcycle: ${c.architecture} has ${c.experts.count} experts already; take a dense model`)
  const found = Object.hasOwn(MIXTURES, c.architecture) ? MIXTURES[c.architecture] : undefined
  if (!found)
    throw new Error(
      `upcycle: no mixture of experts is laid out as ${c.architecture} is; take one of ${Object.keys(MIXTURES).join(', ')}`,
    )
  if (!Number.isInteger(experts) || experts < 2)
    throw new Error(`upcycle: experts must be a whole number of at least 2, found ${experts}`)
  if (!Number.isInteger(active) || active < 1 || active > experts)
    throw new Error(`upcycle: active must be a whole number from 1 to the ${experts} experts, found ${active}`)
  const layers = checkedLayers(c, asked ?? Array.from({ length: c.layers }, (_, i) => i), found[0])
  const source = sparser(c, experts, active, layers)
  const made = architectureOf(source).config(source)
  const dtypes = new Map(c.names.map((n) => [n.name, n.dtype]))
  const config: TransformerConfig = {
    ...made,
    ...(c.replicated && { replicated: c.replicated }),
    ...(c.resized && { resized: true }),
    names: made.names.map((n) => {
      const dtype = dtypes.get(denseName(n.name))
      return dtype ? { ...n, dtype } : n
    }),
  }
  checkSame(c, config)
  const names = [...namesOf(config)].map((n) => n.name)
  const places = new Set([...names, 'head'])
  const isDense = (name: string): boolean => {
    const [, i] = /^blocks\.(\d+)\.mlp\.(gate|up|down)$/.exec(name) ?? []
    return i !== undefined && layers.includes(Number(i))
  }
  const lost = [...Object.keys(weights), ...Object.keys(vectors)].find((n) => !places.has(n) && !isDense(n))
  if (lost !== undefined)
    throw new Error(`upcycle: ${lost}: a ${found[0]} checkpoint has no place for it; take a model without`)
  const deviation = Number(c.source['initializer_range'] ?? 0.02)
  const shapes = (name: string): number[] => placeOf(config, name).shape as number[]
  const weightOf = (name: string): Weight => {
    const own = weights[name]
    if (own) return own
    if (name.endsWith('.router'))
      return dense(tidy(() => keep(rng.fork(name).normal(shapes(name), deviation))) as Tensor2D) // [E, D]
    const copied = weights[denseName(name)]!
    // a tensor of its own, so that each can train by itself
    return copied.format === 'dense'
      ? dense(tidy(() => keep(clone(copied.parts['weight'] as Tensor)) as Tensor2D))
      : copied
  }
  const matrices = names.filter((n) => !(n in vectors))
  return {
    config,
    weights: {
      ...Object.fromEntries(matrices.map((n) => [n, weightOf(n)])),
      ...(weights['head'] && { head: weights['head'] }),
    },
    vectors,
  }
}
