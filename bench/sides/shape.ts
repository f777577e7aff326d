/** The models that every side builds, with the same weights everywhere. Nothing here imports a tensor library. */

export interface Shape {
  readonly vocabulary: number
  readonly width: number
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  readonly theta: number
  readonly eps: number
}

/** SmolLM2-135M */
export const SMOL: Shape = {
  vocabulary: 49152,
  width: 576,
  hidden: 1536,
  layers: 30,
  heads: 9,
  kvHeads: 3,
  theta: 100_000,
  eps: 1e-5,
}
/** a Llama of 25 million parameters */
export const SMALL: Shape = {
  vocabulary: 18432,
  width: 512,
  hidden: 1536,
  layers: 5,
  heads: 8,
  kvHeads: 4,
  theta: 10_000,
  eps: 1e-5,
}
export const headWidth = (c: Shape): number => c.width / c.heads

/** as a config.json of Hugging Face */
export const configOf = (c: Shape, maxLength = 8192): Record<string, unknown> => ({
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: c.vocabulary,
  hidden_size: c.width,
  intermediate_size: c.hidden,
  num_hidden_layers: c.layers,
  num_attention_heads: c.heads,
  num_key_value_heads: c.kvHeads,
  max_position_embeddings: maxLength,
  tie_word_embeddings: true,
  rope_theta: c.theta,
  rms_norm_eps: c.eps,
  hidden_act: 'silu',
  bos_token_id: 1,
  eos_token_id: 2,
})

/** its tensors by their names in a Hugging Face file, [out, in] */
export const tensorsOf = (c: Shape): [name: string, shape: number[]][] => {
  const kv = headWidth(c) * c.kvHeads
  return [
    ['model.embed_tokens.weight', [c.vocabulary, c.width]],
    ...Array.from({ length: c.layers }, (_, i): [string, number[]][] => {
      const l = `model.layers.${i}.`
      return [
        [`${l}input_layernorm.weight`, [c.width]],
        [`${l}self_attn.q_proj.weight`, [c.width, c.width]],
        [`${l}self_attn.k_proj.weight`, [kv, c.width]],
        [`${l}self_attn.v_proj.weight`, [kv, c.width]],
        [`${l}self_attn.o_proj.weight`, [c.width, c.width]],
        [`${l}post_attention_layernorm.weight`, [c.width]],
        [`${l}mlp.gate_proj.weight`, [c.hidden, c.width]],
        [`${l}mlp.up_proj.weight`, [c.hidden, c.width]],
        [`${l}mlp.down_proj.weight`, [c.width, c.hidden]],
      ]
    }).flat(),
    ['model.norm.weight', [c.width]],
  ]
}

/** LoRA's A at q and v: [rank, in] */
export const adaptersOf = (c: Shape, rank: number): [name: string, shape: number[]][] =>
  Array.from({ length: c.layers }, (_, i) =>
    ['q_proj', 'v_proj'].map((n): [string, number[]] => [
      `model.layers.${i}.self_attn.${n}.lora_A.weight`,
      [rank, c.width],
    ]),
  ).flat()

/** FNV-1a of a name: 32 bits */
const seedOf = (name: string): number => {
  let h = 0x811c9dc5
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193)
  return h >>> 0
}

/**
 * The values of a tensor by its name: ones for a norm, else uniform of deviation 1/√in (0.08 for the embedding), from a
 * hash of place and name that Python computes alike, so that all sides start from the same loss.
 */
export const valuesOf = (name: string, shape: readonly number[]): Float32Array => {
  const n = shape.reduce((a, b) => a * b, 1)
  const values = new Float32Array(n)
  if (shape.length === 1) return values.fill(1)
  const deviation = name.includes('embed') ? 0.08 : 1 / Math.sqrt(shape[1]!)
  const factor = (2 * Math.sqrt(3) * deviation) / 2 ** 32
  const seed = seedOf(name)
  for (let i = 0; i < n; i++) {
    let h = (Math.imul(i, 0x9e3779b1) + seed) | 0
    h = Math.imul(h ^ (h >>> 15), 0x85ebca6b)
    h ^= h >>> 13
    values[i] = ((h >>> 0) - 2 ** 31) * factor
  }
  return values
}

/** T tokens of B texts, [B·T] */
export const idsOf = (vocabulary: number, length: number, batch = 1): Int32Array =>
  Int32Array.from({ length: batch * length }, (_, i) => (i * 7919 + 13) % vocabulary)
