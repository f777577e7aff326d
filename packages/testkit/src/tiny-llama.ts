import { architectureOf, type TransformerConfig } from '@weftjs/model'
import type { Network, Rng, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, keep, tidy } from '@weftjs/tensor'
import { dense } from '@weftjs/weight'

export interface TinyLlamaOptions {
  readonly vocabulary?: number
  readonly width?: number
  readonly layers?: number
  readonly heads?: number
  readonly kvHeads?: number
  readonly hidden?: number
  readonly maxLength?: number
  readonly tied?: boolean
  /** biases on q, k, v and o */
  readonly biases?: boolean
  /** how each matrix is kept: `(w) => packed(nf4(), w)`; dense by default */
  readonly keep?: (w: Tensor2D, name: string) => Weight
}

/** A random Llama with every feature that a method can trip over (grouped queries, in ≠ out), in a few thousand numbers. */
export const tinyLlama = (
  rng: Rng,
  {
    vocabulary = 24,
    width = 16,
    layers = 2,
    heads = 4,
    kvHeads = 2,
    hidden = 24,
    maxLength = 64,
    tied = false,
    biases = false,
    keep: format = dense,
  }: TinyLlamaOptions = {},
): Network<TransformerConfig> => {
  const source = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    vocab_size: vocabulary,
    hidden_size: width,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    intermediate_size: hidden,
    max_position_embeddings: maxLength,
    tie_word_embeddings: tied,
    attention_bias: biases,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
  }
  const config = architectureOf(source).config(source)
  const kv = (width / heads) * kvHeads
  const shapes: Record<string, [out: number, input: number]> = { embed: [vocabulary, width] }
  for (let i = 0; i < layers; i++)
    for (const [name, shape] of Object.entries({
      'attn.q': [width, width],
      'attn.k': [kv, width],
      'attn.v': [kv, width],
      'attn.o': [width, width],
      'mlp.gate': [hidden, width],
      'mlp.up': [hidden, width],
      'mlp.down': [width, hidden],
    } as const))
      shapes[`blocks.${i}.${name}`] = [...shape]
  if (!tied) shapes['head'] = [vocabulary, width]
  const weights: Record<string, Weight> = {}
  const vectors: Record<string, Tensor> = {}
  for (const [name, [out, input]] of Object.entries(shapes)) {
    const w = rng.fork(name).normal([out, input], name === 'embed' ? 1 : 1.2 / Math.sqrt(input)) as Tensor2D
    const kept: Weight[] = []
    tidy(() => {
      kept.push(format(w, name))
      for (const t of Object.values(kept[0]!.parts)) keep(t)
    })
    weights[name] = kept[0]!
    if (!Object.values(kept[0]!.parts).includes(w)) w.dispose()
    if (biases && /attn\.[qkvo]$/.test(name)) vectors[`${name}.bias`] = rng.fork(`${name}.bias`).normal([out], 0.1)
  }
  const norms = ['norm', ...Array.from({ length: layers }, (_, i) => [`blocks.${i}.norm1`, `blocks.${i}.norm2`]).flat()]
  for (const name of norms) vectors[name] = tidy(() => add(rng.fork(name).normal([width], 0.1), 1))
  return { config, weights, vectors }
}
