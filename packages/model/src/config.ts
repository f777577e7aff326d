import type { Config } from '@weftjs/spec'
import type { Activation } from '@weftjs/tensor'
import type { Name } from './architectures/architecture.ts'

/** Rotary position embedding: inverse frequencies and what a scaling rule does to them. */
export interface Rope {
  /** base of the geometric series of wavelengths */
  readonly theta: number
  /** the scaling rule as the checkpoint states it (`rope_type`, `factor`, ...); none for plain rotary embedding */
  readonly scaling?: Config
}

/** Mixture of experts: in place of the MLP, a few of many small ones, chosen for each token. */
export interface Experts {
  /** E; and k, those that a token goes through */
  readonly count: number
  readonly active: number
  /** F of one expert */
  readonly hidden: number
  /** per layer: experts, or a plain MLP? */
  readonly layers: readonly boolean[]
  /** the k probabilities are divided by their sum */
  readonly normalized: boolean
  /** hidden units of an expert that sees every token, with a gate of its own (Qwen 2 MoE) */
  readonly shared?: number
  /** factor of the load-balancing loss; and does training add it unasked? */
  readonly balance: number
  readonly balanced: boolean
}

/** What the one transformer needs to know; every architecture is a function from Hugging Face's config to this. */
export interface TransformerConfig {
  /** `model_type` of the checkpoint */
  readonly architecture: string
  readonly vocabulary: number
  /** D, width of the residual stream */
  readonly width: number
  readonly layers: number
  /** H query heads in groups that share G key-value heads of width S */
  readonly heads: number
  readonly kvHeads: number
  readonly headWidth: number
  /** F, hidden units of the MLP */
  readonly hidden: number
  readonly maxLength: number
  readonly causal: boolean
  readonly norm: 'rms' | 'layer'
  readonly eps: number
  /** added to the stored scale of every norm: 1 in Gemma */
  readonly normOffset: number
  /** where a block's norms stand; `sandwich` has one before and one after each half */
  readonly placement: 'pre' | 'post' | 'sandwich'
  readonly activation: Activation
  /** down(f(gate)⊙up) instead of down(f(up)) */
  readonly gated: boolean
  readonly experts?: Experts
  /** q, k and v in one matrix `attn.qkv` (GPT-2) */
  readonly fused: boolean
  readonly rope?: Rope
  /** rotary embedding of the sliding layers, where it differs (Gemma 3) */
  readonly ropeLocal?: Rope
  /** learned positions start at this row (0 in GPT-2, 2 in RoBERTa); absent where positions are not learned */
  readonly positionOffset?: number
  /** token types of BERT, embedded where there are any */
  readonly types?: number
  /** per layer: does it see only `window` keys back? */
  readonly sliding: readonly boolean[]
  readonly window?: number
  /** factor of q·kᵀ */
  readonly scale: number
  /** c·tanh(score/c) on attention scores and on logits (Gemma 2) */
  readonly softcap?: number
  readonly logitSoftcap?: number
  /** embeddings are multiplied by this: √D in Gemma */
  readonly embedScale: number
  /** the head is the embedding matrix */
  readonly tied: boolean
  /** what the model reads and what it ends in */
  readonly input: 'tokens' | 'patches'
  /**
   * `causal` logits [B, T, V] of the next token, `masked` of the token itself after a transform; `classes` [B, C] of a text
   * (see `pooling`), `labels` [B, T, C] of each token, and `pooled` [B, D] of the first; `none`: a base model that ends in
   * its hidden states
   */
  readonly output: 'causal' | 'masked' | 'classes' | 'labels' | 'pooled' | 'none'
  /**
   * What becomes of a text's tokens in `classes`: the first is looked at alone, or the logits of all are made and the last
   * token's taken, or their mean, or the largest of each class; padding counts in none
   */
  readonly pooling?: 'first' | 'last' | 'mean' | 'max'
  /** the first token passes through tanh(linear) before the head (BERT) */
  readonly pooler: boolean
  /** C, of `classes` and `labels` */
  readonly classes?: number
  /** of images, for `patches` */
  readonly image?: { readonly size: number; readonly patch: number; readonly channels: number }
  /** every tensor of the family's checkpoints and where it lives here, `{i}` standing for the layer */
  readonly names: readonly Name[]
  /** ranges of a shallower network's layers that its layers are: see `replicateLayers` */
  readonly replicated?: readonly (readonly [start: number, end: number])[]
  /** its vocabulary is not that of the checkpoint which it came from: see `resizeVocabulary` */
  readonly resized?: boolean
  /** config.json as it was read, written back as it was */
  readonly source: Config
}
