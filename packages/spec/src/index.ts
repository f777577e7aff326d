/**
 * The contracts of Weft, types only. A method is a factory that returns one of these plain objects.
 * @packageDocumentation
 */
import type { Scalar, Tensor, Tensor2D } from '@tensorflow/tfjs-core'

export type { Scalar, Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core'

/** Named tensors. Checkpoints, gradients, updates, moments and adapter state are all this. */
export type Params = Readonly<Record<string, Tensor>>

/** A linear map ℝⁱⁿ → ℝᵒᵘᵗ that need not be stored as a dense matrix. */
export interface Weight {
  /** [out, in] */
  readonly shape: readonly [out: number, input: number]
  /** x [..., in] → x·Wᵀ [..., out] */
  apply(x: Tensor): Tensor
  /** W [out, in] */
  dense(): Tensor2D
  /** another matrix kept in the same format */
  like(w: Tensor2D): Weight
  /** rows of W for embeddings, index [...] int32 → [..., in]; gathered from dense() when absent */
  rows?(index: Tensor): Tensor
  /** the tensors that hold this weight, to count, to save and to dispose */
  readonly parts: Params
  /** name of the storage format, for files and messages: `dense`, `nf4`, ... */
  readonly format?: string
  /** of a packed weight: what packs and unpacks it */
  readonly codec?: Codec
}

export type SiteKind = 'model' | 'embed' | 'block' | 'attn' | 'core' | 'mlp' | 'linear' | 'norm' | 'head'

/** One addressable place of a model: `blocks.3.attn.q`, `blocks.3.mlp`, `embed`. */
export interface Site {
  readonly name: string
  readonly kind: SiteKind
  /** -1 outside the blocks */
  readonly layer: number
  readonly in: number
  readonly out: number
  readonly weight?: Weight
  /** the module's path in the checkpoint it came from, as PEFT names it: `model.layers.0.self_attn.q_proj` */
  readonly module?: string
  /** the checkpoint keeps this matrix as [in, out] (GPT-2's Conv1D) */
  readonly transposed?: boolean
  /**
   * Of a matrix in a mixture of experts: the parameter [E, parts·out, in] that holds it with those of the other experts, as
   * PEFT's target_parameters name it; of the router, its own.
   */
  readonly fused?: {
    readonly parameter: string
    readonly expert: number
    readonly experts: number
    readonly part: number
    readonly parts: number
  }
  /** hidden units this matrix writes and reads, for permuting, pruning, growing: ['qk.3', 'residual'] */
  readonly axes?: readonly [output: string, input: string]
  /** beside the matrix of a linear: its bias; of a norm: its scale as it is stored, and its bias */
  readonly vectors?: { readonly scale?: Tensor; readonly bias?: Tensor }
  /** within the blocks: what they are like, for methods that put something of the same kind beside them */
  readonly block?: BlockShape
}

/** How the blocks of a network are built. */
export interface BlockShape {
  /** H query heads in groups that share G key-value heads, each of width S */
  readonly heads: number
  readonly kvHeads: number
  readonly headWidth: number
  /** F, hidden units of the MLP */
  readonly hidden: number
  readonly causal: boolean
  /** factor of q·kᵀ; and c, where scores are c·tanh(score/c) */
  readonly scale: number
  readonly softcap?: number
  /** a query sees no more than this many keys back, where the attention of this layer slides */
  readonly window?: number
  /** base of rotary embedding, where there is one */
  readonly theta?: number
}

/** What a method brings to one site. */
export interface Start<S extends Params = Params> {
  /** saved with the adapter */
  readonly state: S
  /** default: all of it */
  readonly trains?: readonly (keyof S & string)[]
  /** takes the place of the frozen weight (PiSSA's residual, LoftQ's quantized one) */
  readonly base?: Weight
}

/** One adaptation method: tensors to train, and what they do to a weight or around a module. */
export interface Adapter<S extends Params = Params> {
  readonly name: string
  /** the factory's options, written beside a saved adapter */
  readonly options?: Config
  /** the options that make it again for these states, by site, where data or training have decided their shapes */
  settled?(states: Readonly<Record<string, S>>): Config
  /** statistics of a calibration pass that `init` reads with `ctx.seen` */
  readonly calibrates?: readonly Statistic[]
  /** undefined: nothing to do at this site */
  init(site: Site, ctx: InitContext): Start<S> | undefined
  weight?(base: Weight, state: S, ctx: RunContext): Weight
  /**
   * What becomes of a vector beside the weight: the bias of a linear or of a norm (undefined where there is none, and then
   * the result is a new one), the scale of a norm. Folded like `weight`.
   */
  vector?(which: 'bias' | 'scale', base: Tensor | undefined, state: S, ctx: RunContext): Tensor | undefined
  around?(next: (x: Tensor) => Tensor, x: Tensor, state: S, ctx: RunContext): Tensor
  /** `around` for the attention core, where q, k and v enter */
  attend?(next: (x: Attention) => Tensor, x: Attention, state: S, ctx: RunContext): Tensor
  /** between a backward pass and the optimizer's step, or after it: re-budget ranks, move indices, prune */
  revise?(sites: Readonly<Record<string, Revisable<S>>>, ctx: ReviseContext): Readonly<Record<string, Revision<S>>>
}

/** One site of an adapter between two steps, under the site's name. */
export interface Revisable<S extends Params = Params> {
  readonly site: Site
  /** trained and fixed tensors, after the optimizer's step */
  readonly state: S
  /** of what trains, from the backward pass of this step */
  readonly grads: Partial<S>
}
export interface ReviseContext {
  /** steps done, this one included; and in all */
  readonly step: number
  readonly steps: number
  readonly rng: Rng
}
/** What is new at a site; whatever is not named stays. A tensor may change its shape. */
export interface Revision<S extends Params = Params> {
  readonly state: Partial<S>
  /**
   * What becomes of the optimizer's moments of a tensor (`moment` is of its old shape; `name` is the optimizer's, such as
   * `m` or `v`). By default they stay, and where the shape changed they begin at zero.
   */
  readonly moments?: Readonly<Partial<Record<keyof S & string, (moment: Tensor, name: string) => Tensor>>>
}

/** q [B, H, T, S]; k, v [B, G, K, S] with G key-value heads, each shared by H/G queries; bias broadcasts to [B, H, T, K] */
export interface Attention {
  readonly q: Tensor
  readonly k: Tensor
  readonly v: Tensor
  readonly bias?: Tensor
  /** query t sees keys up to t + (K - T): set where no bias says it */
  readonly causal: boolean
}

export interface InitContext {
  readonly rng: Rng
  /** all sites that this adapter is put on, in order */
  readonly sites: readonly Site[]
  /**
   * A tensor common to all sites of this adapter (VeRA's bases, Compacter's slow weights), made once. While running it is
   * `ctx.shared[key]`: read it there where it trains, since its value moves.
   */
  shared<T extends Tensor>(key: string, make: (rng: Rng) => T, options?: { readonly trains?: boolean }): T
  /** anything else that is decided once for all sites: a split of ranks, a budget. It makes no tensors: those are `shared` */
  once<T>(key: string, make: () => T): T
  /**
   * What a calibration pass saw at a site, this one by default: the statistics that the adapter named in `calibrates`.
   * @throws Error where no pass was given, or none reached the site
   */
  seen(site?: Site): Seen
}

/**
 * What a calibration pass gathers at a site, from the rows x [in] of its inputs at places that carry a loss, and from the
 * gradient G [out, in] of its weight:
 * `mean` E[x] [in], `moment` E[x·xᵀ] [in, in] (not centred), `square` its diagonal E[x²] [in] (llama.cpp's importance),
 * `scaled` E over batches of XᵀX with X/max|X| [in, in] (CorDA), `magnitude` E|x| [in] (AWQ), `peak` max|x| [in], `gradient` E[G] [out, in], `fisher` E[G ⊙ G] over batches [out, in].
 */
export type Statistic = 'mean' | 'moment' | 'square' | 'scaled' | 'magnitude' | 'peak' | 'gradient' | 'fisher'
export interface Seen {
  /** rows of x, and batches */
  readonly rows: number
  readonly batches: number
  /** @throws Error for a statistic that was not gathered */
  get(statistic: Statistic): Tensor
}

export interface RunContext {
  readonly site: Site
  readonly training: boolean
  /** noise of this forward pass and this site: dropout masks, relaxed gates; given while training */
  readonly rng?: Rng
  /** whatever came with the batch: task ids, positions, mask, timesteps */
  readonly inputs: Params
  /** trainable tensors below this site, for recompute */
  readonly inner: readonly Tensor[]
  /** the adapter's shared tensors as they are now */
  readonly shared: Params
  /** lives for one forward pass: side networks, routers */
  readonly scratch: Map<string, Tensor>
  /** load balance, orthogonality, density: added to the loss */
  penalty(term: Scalar): void
  /** tokens of the text that came in earlier passes, where one is being generated */
  readonly past?: number
  /**
   * Given while a text is generated: puts keys and values [B, G, T, S] of an attention of the adapter's own, under a name of
   * its own at this site, behind those of earlier tokens, and gives all of them back [B, G, K, S].
   */
  extend?(name: string, k: Tensor, v: Tensor): { k: Tensor; v: Tensor }
  /**
   * Given while a text is generated: another pass of the model over the same tokens, whose keys and values are kept aside
   * of those of the pass that counts.
   */
  aside?<T>(pass: () => T): T
}

export interface PartLayout {
  readonly dtype: 'float32' | 'int32'
  /** null where the values of the matrix decide how many there are */
  readonly shape: readonly (number | null)[]
}
/** A storage format: how a matrix becomes few bits and back. */
export interface Codec<P extends Params = Params> {
  readonly name: string
  readonly options?: Config
  /** statistics of the layer's inputs that `encode` reads from `seen` */
  readonly calibrates?: readonly Statistic[]
  /** w [out, in]; a codec that calibrates falls back to what it does without data where `seen` is absent */
  encode(w: Tensor2D, seen?: Seen): P
  /** the parts that a matrix of this shape has: what is in a file is held against it, and its bits are counted by it */
  layout?(shape: readonly [number, number]): Readonly<Record<keyof P & string, PartLayout>>
  /** → [out, in] */
  decode(packed: P, shape: readonly [number, number]): Tensor2D
  /** x [..., in] → x·decode(packed)ᵀ, where the format can do better here than to decode first; else undefined */
  matmul?(x: Tensor, packed: P, shape: readonly [number, number]): Tensor | undefined
  /** dy [..., out] → dy·decode(packed) [..., in], the gradient of x in `matmul`, or undefined */
  gradient?(dy: Tensor, packed: P, shape: readonly [number, number]): Tensor | undefined
  /** index [...] → rows of decode(packed), for embeddings, without decoding the rest */
  rows?(packed: P, shape: readonly [number, number], index: Tensor): Tensor
}

/**
 * optax's pair of pure functions. `update` may consume `grads` and `state`, that is change them in place; it never changes
 * `params`. A tensor that it returns is an update or part of the state, never both: clone it.
 */
export interface Transform<S = unknown> {
  init(params: Params): S
  update(grads: Params, state: S, params: Params): [updates: Params, state: S]
}
export type Loss = (params: Params) => Scalar
/** Where gradients come from: backprop, two forward passes, a perturbed point. Decorators compose. */
export type Estimator = (loss: Loss, params: Params) => { loss: Scalar; grads: Params }

/** Which tensors of a network train whole: names for `attach(..., { train })`, drawn anew where a method has phases. */
export type Choice = (network: Network<any>, sites: readonly Site[], rng: Rng) => readonly string[]

/** The same tensor from n models → one tensor. */
export type Merge = (tensors: readonly Tensor[], ctx: MergeContext) => Tensor
export interface MergeContext {
  readonly name: string
  readonly base?: Tensor
  readonly weights: readonly number[]
  readonly rng: Rng
}

/** One step of a data pipeline. Lazy; stops pulling when its consumer stops. */
export type Stage<A, B = A> = (items: AsyncIterable<A>) => AsyncIterable<B>
/** one number per example */
export type Scorer<E> = (batch: readonly E[]) => Promise<Float32Array>
export type Selector<E> = (scored: AsyncIterable<{ item: E; score: number }>, budget: number) => AsyncIterable<E>

/** A training loss, given models to ask: the policy, and named peers (reference, teacher). */
export type Objective<B> = (policy: Forward, batch: B, peers: Readonly<Record<string, Forward>>) => Scalar
export type Forward = (inputs: Params) => { logits: Tensor; hidden?(site: string): Tensor }

/** checkpoint → checkpoint, config included: grow, prune, edit, convert. Pure. */
export type Surgery = (from: Network) => Network
/** Matrices as weights, everything else (norm scales, biases) as vectors, under the site's name: `blocks.0.norm1`, `blocks.0.attn.q.bias`. */
export interface Network<C extends object = Config> {
  readonly config: C
  readonly weights: Readonly<Record<string, Weight>>
  readonly vectors: Params
}
export type Config = Readonly<Record<string, unknown>>

/** Seeded and counter-based; the same numbers on every backend. */
export interface Rng {
  /** 32-bit seed of this stream */
  readonly seed: number
  normal(shape: number[], std?: number): Tensor
  uniform(shape: number[], lo?: number, hi?: number): Tensor
  bernoulli(shape: number[], p: number): Tensor
  /** n plain numbers in [0, 1), for shuffles and choices that need no tensor */
  numbers(n: number): Float64Array
  /** an independent stream named by `key`: it neither reads nor advances this one */
  fork(key: string | number): Rng
}

/** Text to token ids and back; `special` adds what the tokenizer adds around a text (BOS, CLS ... SEP). */
export interface Tokenizer {
  readonly vocabulary: number
  readonly bos?: number
  readonly eos?: number
  readonly pad?: number
  encode(text: string, options?: { special?: boolean }): number[]
  decode(ids: readonly number[], options?: { skipSpecial?: boolean }): string
  /** messages → text by the model's chat template; absent where the model has none */
  chat?(messages: readonly Message[], options?: { generationPrompt?: boolean }): string
}
export interface Message {
  readonly role: string
  readonly content: string
}

/** One training example. `labels` are aligned with `ids` (not shifted), -100 where no loss falls. */
export interface Example {
  readonly ids: readonly number[]
  readonly labels: readonly number[]
}

/** Rows of token ids, ready for a model; every array is [B·T], row by row. */
export interface Batch {
  readonly shape: readonly [batch: number, length: number]
  readonly ids: Int32Array
  /** the next token at each place, -100 where no loss falls */
  readonly targets: Int32Array
  /** restart at 0 with each example of a packed row */
  readonly positions: Int32Array
  /** 1, 2, ... per example of a row, 0 for padding; tokens see only their own segment */
  readonly segments: Int32Array
}
