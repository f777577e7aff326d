/** A family of models as llama.cpp knows it, and as Hugging Face does. */
export interface GgufFamily {
  /** `general.architecture`, before the keys of its metadata */
  readonly arch: string
  /** `model_type` of config.json: the one that is written when read back, and others that go into the same files */
  readonly model: string
  readonly also: readonly string[]
  readonly architectures: string
  /** rows of q and k lie as pairs of neighbours rotate, not as halves do */
  readonly permuted: boolean
  /** what scales of norms are larger by than in a checkpoint */
  readonly normOffset: 0 | 1
  /** the names of a block's tensors: Hugging Face's, and ggml's */
  readonly block: Readonly<Record<string, string>>
  /** of a mixture of experts in every layer */
  readonly experts?: GgufExperts
}
export interface GgufExperts {
  /** Hugging Face's module of a block, and its names of gate, up and down */
  readonly module: string
  readonly parts: readonly [gate: string, up: string, down: string]
  /** fields of config.json: how many there are, and how wide they are */
  readonly count: string
  readonly hidden: string
  /** do the weights of those that a token goes to sum to 1? as llama.cpp computes it in this architecture */
  readonly normalized: boolean
}

const CORE: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
}
const ATTENTION: Readonly<Record<string, string>> = {
  ...CORE,
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}
const PRE = { ...ATTENTION, post_attention_layernorm: 'ffn_norm' }
const SANDWICH = {
  ...ATTENTION,
  post_attention_layernorm: 'post_attention_norm',
  pre_feedforward_layernorm: 'ffn_norm',
  post_feedforward_layernorm: 'post_ffw_norm',
}
// what stands last is what a file is read as
const SPARSE = { ...CORE, post_attention_layernorm: 'ffn_norm', 'mlp.gate': 'ffn_gate_inp' }
const SHARED = {
  'mlp.shared_expert.gate_proj': 'ffn_gate_shexp',
  'mlp.shared_expert.up_proj': 'ffn_up_shexp',
  'mlp.shared_expert.down_proj': 'ffn_down_shexp',
  'mlp.shared_expert_gate': 'ffn_gate_inp_shexp',
}
const QK = { 'self_attn.q_norm': 'attn_q_norm', 'self_attn.k_norm': 'attn_k_norm' }
const QWEN: Omit<GgufExperts, 'normalized'> = {
  ...{ module: 'mlp', parts: ['gate_proj', 'up_proj', 'down_proj'] },
  ...{ count: 'num_experts', hidden: 'moe_intermediate_size' },
}

const family = (
  arch: string,
  architectures: string,
  rest: Partial<GgufFamily> & Pick<GgufFamily, 'block'>,
): GgufFamily => ({ arch, model: arch, also: [], architectures, permuted: false, normOffset: 0, ...rest })

export const ggufFamilies: readonly GgufFamily[] = [
  family('llama', 'LlamaForCausalLM', { also: ['mistral'], permuted: true, block: PRE }),
  family('qwen2', 'Qwen2ForCausalLM', { block: PRE }),
  family('qwen3', 'Qwen3ForCausalLM', { block: { ...PRE, ...QK } }),
  family('llama', 'MixtralForCausalLM', {
    ...{ model: 'mixtral', permuted: true, block: { ...SPARSE, 'block_sparse_moe.gate': 'ffn_gate_inp' } },
    experts: {
      ...{ module: 'block_sparse_moe', parts: ['w1', 'w3', 'w2'], normalized: true },
      ...{ count: 'num_local_experts', hidden: 'intermediate_size' },
    },
  }),
  family('qwen2moe', 'Qwen2MoeForCausalLM', {
    ...{ model: 'qwen2_moe', block: { ...SPARSE, ...SHARED }, experts: { ...QWEN, normalized: false } },
  }),
  family('qwen3moe', 'Qwen3MoeForCausalLM', {
    ...{ model: 'qwen3_moe', block: { ...SPARSE, ...QK }, experts: { ...QWEN, normalized: true } },
  }),
  family('gemma', 'GemmaForCausalLM', { normOffset: 1, block: PRE }),
  family('gemma2', 'Gemma2ForCausalLM', { normOffset: 1, block: SANDWICH }),
  family('gemma3', 'Gemma3ForCausalLM', {
    model: 'gemma3_text',
    also: ['gemma3'],
    normOffset: 1,
    block: { ...SANDWICH, ...QK },
  }),
]

const TOP: Readonly<Record<string, string>> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
}
const swapped = (map: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(map).map(([a, b]) => [b, a]))
const own = (map: Readonly<Record<string, string>>, key: string): string | undefined =>
  Object.hasOwn(map, key) ? map[key] : undefined

/** base models and the text towers of multimodal ones are spelled otherwise */
const plainly = (module: string): string => {
  const name = module.replace(/^(model\.)?language_model\.(model\.)?/, 'model.').replace(/^model\.lm_head$/, 'lm_head')
  return /^(layers\.|embed_tokens$|norm$)/.test(name) ? `model.${name}` : name
}

/** `model.layers.3.self_attn.q_proj` → `blk.3.attn_q`; undefined for what these files have no place for */
export const toGgufModule = ({ block }: GgufFamily, module: string): string | undefined => {
  const name = plainly(module)
  const inBlock = /^model\.layers\.(\d+)\.(.+)$/.exec(name)
  if (!inBlock) return own(TOP, name)
  const found = own(block, inBlock[2]!)
  return found && `blk.${inBlock[1]}.${found}`
}

/** `blk.3.attn_q` → `model.layers.3.self_attn.q_proj` */
export const toHfModule = ({ block }: GgufFamily, module: string): string | undefined => {
  const inBlock = /^blk\.(\d+)\.(.+)$/.exec(module)
  if (!inBlock) return own(swapped(TOP), module)
  const found = own(swapped(block), inBlock[2]!)
  return found && `model.layers.${inBlock[1]}.${found}`
}

/** a module and what follows it, `.weight` or `.bias` */
const apart = (name: string): [module: string, kind: string] | undefined => {
  const found = /^(.+)(\.(?:weight|bias))$/.exec(name)
  return found ? [found[1]!, found[2]!] : undefined
}
const through =
  (of: (family: GgufFamily, module: string) => string | undefined) =>
  (family: GgufFamily, name: string): string | undefined => {
    const parts = apart(name)
    const module = parts && of(family, parts[0])
    return module && `${module}${parts[1]}`
  }
/** `model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight` */
export const toGgufName: (family: GgufFamily, name: string) => string | undefined = through(toGgufModule)
/** `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight` */
export const toHfName: (family: GgufFamily, name: string) => string | undefined = through(toHfModule)

/** heads of the matrix whose rows lie in another order in these files; undefined where they do not */
export const permutedHeads = (
  { permuted }: GgufFamily,
  gguf: string,
  { heads, kvHeads }: { readonly heads: number; readonly kvHeads: number },
): number | undefined => {
  const part = permuted && /^blk\.\d+\.attn_([qk])\./.exec(gguf)?.[1]
  return part ? (part === 'q' ? heads : kvHeads) : undefined
}

/**
 * Where row r of a head's S rows lies in the file: halves rotate together in Hugging Face's order (r with r + S/2), and
 * neighbours in ggml's (2i with 2i + 1).
 */
export const rowInGguf = (row: number, headWidth: number): number => {
  const [r, half] = [row % headWidth, headWidth / 2]
  return row - r + (r < half ? 2 * r : 2 * (r - half) + 1)
}

/** and back: which row of Hugging Face's order lies at row r of a head in the file */
export const rowInHf = (row: number, headWidth: number): number => {
  const r = row % headWidth
  return row - r + (r % 2 ? (r - 1 + headWidth) / 2 : r / 2)
}

/** is this the scale of a norm, which Gemma's files have 1 added to? */
export const isShifted = ({ normOffset }: GgufFamily, gguf: string): boolean =>
  normOffset === 1 && gguf.endsWith('_norm.weight')

const PARTS = ['gate', 'up', 'down'] as const
type Part = (typeof PARTS)[number]
/** A tensor of experts by Hugging Face's name: of one, or of all. */
export interface ExpertName {
  readonly layer: number
  /** undefined: all, in one tensor [E, out, in], or [E, 2·out, in] with gate and up beside each other */
  readonly expert: number | undefined
  readonly parts: readonly Part[]
}
export const expertIn = ({ experts }: GgufFamily, hf: string): ExpertName | undefined => {
  const found = experts && /^model\.layers\.(\d+)\.(\w+)\.experts\.(?:(\d+)\.)?(\w+?)(?:\.weight)?$/.exec(plainly(hf))
  if (!found) return undefined
  const [, layer, module, expert, name] = found
  if (expert === undefined) {
    const parts = { gate_up_proj: ['gate', 'up'], down_proj: ['down'] } as const
    return Object.hasOwn(parts, name!)
      ? { layer: Number(layer), expert: undefined, parts: parts[name as keyof typeof parts] }
      : undefined
  }
  const at = experts.parts.indexOf(name!)
  if (module !== experts.module || at < 0) return undefined
  return { layer: Number(layer), expert: Number(expert), parts: [PARTS[at]!] }
}
/** `blk.3.ffn_gate_exps.weight`, which all experts lie in */
export const expertsName = (layer: number, part: Part): string => `blk.${layer}.ffn_${part}_exps.weight`

/** where expert e of `blk.3.ffn_gate_exps.weight` lies in Hugging Face's files */
export const toHfExpert = ({ experts }: GgufFamily, gguf: string): ((e: number) => string) | undefined => {
  const found = experts && /^blk\.(\d+)\.ffn_(gate|up|down)_exps\.weight$/.exec(gguf)
  if (!found) return undefined
  const part = experts.parts[PARTS.indexOf(found[2] as Part)]!
  return (e) => `model.layers.${found[1]}.${experts.module}.experts.${e}.${part}.weight`
}
