import type { Config, Network, Weight } from '@weftjs/spec'
import { type Checkpoint, CheckpointError, type Folder, type Sink, type TensorSource } from '@weftjs/tensor/checkpoint'
import type { Names, PackedWriter } from '../formats/format.ts'
import { format as weft } from '../formats/weft.ts'
import { type GgufSizes, metadataOf, sizesOf, textConfigOf } from './config-out.ts'
import { expertsTogether } from './experts-out.ts'
import { isShifted, permutedHeads, rowInHf, toGgufName } from './families.ts'
import type { GgufField, GgufMetadata } from './field.ts'
import { type GgufImportance, importanceFor } from './imatrix.ts'
import { fileTypeOf, fitting, type GgufMix, ggufMix, mixLike, typeIn } from './mix.ts'
import { converted, movedRows, regrouped, rowBytesOf } from './tensors-out.ts'
import { type GgmlType, ggmlTypes } from './types.ts'
import { type TokenizerFiles, vocabularyOf } from './vocabulary-out.ts'
import { type GgufFile, type GgufSource, writeGguf } from './writer.ts'

export interface GgufModelOptions {
  /** config.json */
  readonly config: Config
  /** under Hugging Face's names: those of `checkpointOf`, or `checkpointSources` of a folder's checkpoint */
  readonly tensors: readonly TensorSource[]
  /** without one the file has no vocabulary, and llama.cpp takes token ids alone */
  readonly tokenizer?: TokenizerFiles
  /** default F16; matrices that are in the codec `gguf` already stay as they are */
  readonly mix?: GgufMix | (string & {})
  /** the type of one tensor by ggml's name, in place of the mix's */
  readonly typeOf?: (name: string, type: GgmlType) => GgmlType | undefined
  /**
   * What each column of a matrix is worth, by ggml's name of its tensor, as `ggufImportance` of a calibration pass and
   * `readImatrix` of llama.cpp's file give it; matrices that it has none of are made without.
   */
  readonly importance?: GgufImportance
  /** `general.name` */
  readonly name?: string
  /** llama.cpp's name of the pre-tokenizer, where it cannot be told from tokenizer.json */
  readonly pre?: string
  /** goes last into the metadata, over what is made here */
  readonly metadata?: GgufMetadata
}

/** what checkpoints have and these files do not */
const LEFT_OUT =
  /rotary_emb\.inv_freq$|\.attention\.(masked_)?bias$|vision_tower\.|multi_modal_projector\.|vision_model\./

/**
 * A model as a GGUF file that llama.cpp runs: its metadata, tokenizer and tensors, whose bytes are made when asked for.
 * @throws Error for what llama.cpp would compute otherwise, and for tensors that the family has no place for
 */
export const ggufModel = (options: GgufModelOptions): GgufFile => {
  const { config, tensors, tokenizer, mix: asked, typeOf, name, pre } = options
  const sizes = sizesOf(config)
  const { family } = sizes
  const plans = planned(
    tensors.filter((t) => !LEFT_OUT.test(t.name)),
    config,
    sizes,
  )
  const tied = (textConfigOf(config)['tie_word_embeddings'] ?? family.normOffset === 1) === true
  const used = tied ? plans.filter((p) => p.name !== 'output.weight') : plans
  const embed = used.find((p) => p.name === 'token_embd.weight')
  if (!embed)
    throw new CheckpointError('not among the tensors, and a GGUF file needs it', {
      tensor: 'model.embed_tokens.weight',
    })
  const vocabulary = embed.shape[0]!
  const mix = ggufMix(asked ?? 'F16')
  const hasHead = used.some((p) => p.name === 'output.weight')
  const { importance } = options
  const context = { ...sizes, tied: !hasHead, importance: importance !== undefined }
  const made = used.map((plan): GgufSource => {
    const { name, shape } = plan
    if (plan.packed)
      return { name, shape, type: plan.packed, data: () => inTurn(plan.sources, (s) => keptRows(s, plan)) }
    const chosen = typeIn(mix, name, shape, context)
    const type = shape.length < 2 ? chosen : fitting(typeOf?.(name, chosen) ?? chosen, shape.at(-1)!)
    const { moved, shift, sources } = plan
    const columns = importanceFor(importance, name, shape)
    const of = (source: TensorSource, e: number): ReturnType<typeof converted> =>
      converted(source.data, {
        ...{
          name: source.name,
          dtype: source.dtype,
          shape: sources.length > 1 ? shape.slice(-2) : shape,
          type,
          moved,
          shift,
        },
        importance: sources.length > 1 ? columns?.subarray(e * shape.at(-1)!, (e + 1) * shape.at(-1)!) : columns,
      })
    return { name, shape, type, data: () => inTurn(sources, of) }
  })
  const { fields, ropeFactors } = metadataOf(config, vocabulary)
  const quantized = made.some(({ type }) => ggmlTypes[type].size > 1)
  const general: [string, GgufField][] = [
    ['general.architecture', { type: 'string', value: family.arch }],
    ['general.type', { type: 'string', value: 'model' }],
    ...(name === undefined ? [] : [['general.name', { type: 'string', value: name }] as [string, GgufField]]),
    ['general.file_type', { type: 'u32', value: fileTypeOf(asked ? mix : called(used, mix)) }],
    ...(quantized ? [['general.quantization_version', { type: 'u32', value: 2 }] as [string, GgufField]] : []),
  ]
  const metadata = new Map<string, GgufField>([
    ...general,
    ...fields,
    ...(tokenizer
      ? vocabularyOf(tokenizer, vocabulary, pre)
      : ([['tokenizer.ggml.model', { type: 'string', value: 'no_vocab' }]] as const)),
    ...(options.metadata ?? []),
  ])
  const rope: readonly GgufSource[] = ropeFactors
    ? [
        {
          name: 'rope_freqs.weight',
          type: 'F32',
          shape: [ropeFactors.length],
          data: new Uint8Array(ropeFactors.buffer),
        },
      ]
    : []
  return { metadata, tensors: [...rope, ...made] }
}

/** Writes a model as a GGUF file, holding no more than a piece of one tensor; what fails leaves nothing behind. */
export const saveGguf = async (sink: Sink, options: GgufModelOptions): Promise<void> => {
  let file: GgufFile
  try {
    file = ggufModel(options)
  } catch (error) {
    await sink.abort?.()
    throw error
  }
  await writeGguf(sink, file)
}

/** the mix that a file is like whose packed matrices are mostly of one type */
const called = (plans: readonly Plan[], mix: GgufMix): GgufMix => {
  const counts = new Map<GgmlType, number>()
  for (const { packed } of plans) if (packed) counts.set(packed, (counts.get(packed) ?? 0) + 1)
  const most = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0]
  return (most && mixLike(most)) ?? mix
}

/** where a tensor goes and what is done to it on the way */
interface Plan {
  /** one, or one of each expert */
  readonly sources: readonly TensorSource[]
  /** ggml's */
  readonly name: string
  readonly shape: readonly number[]
  readonly moved: { readonly height: number; readonly of: (row: number) => number } | undefined
  readonly shift: number
  /** its type, where its data are ggml's blocks already */
  readonly packed: GgmlType | undefined
}

/** what each source becomes, one after the other */
async function* inTurn(
  sources: readonly TensorSource[],
  of: (source: TensorSource, e: number) => AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  for (const [e, source] of sources.entries()) yield* of(source, e)
}

/** the tensors one by one, and those of experts together, where the first of them is */
const planned = (tensors: readonly TensorSource[], config: Config, sizes: GgufSizes): Plan[] => {
  const grouped = expertsTogether(tensors, sizes, (hf) => packedType(config, hf))
  const plans: Plan[] = []
  for (const source of tensors) {
    const found = grouped.get(source)
    if (found === undefined) plans.push(planOf(source, config, sizes))
    else for (const group of found) plans.push({ ...group, moved: undefined, shift: 0 })
  }
  return plans
}

const planOf = (source: TensorSource, config: Config, sizes: GgufSizes): Plan => {
  const { family } = sizes
  const stem = source.name.replace(/\.q$/, '')
  const packed = stem !== source.name ? packedType(config, stem) : undefined
  const hf = packed ? stem : source.name
  const fail = (found: string): never => {
    throw new CheckpointError(found, { tensor: source.name })
  }
  const name = toGgufName(family, hf) ?? fail(`a GGUF file of ${family.arch} has no place for it; leave it out`)
  const shape = packed ? matrixShape(name, config, sizes) : source.shape
  const heads = permutedHeads(family, name, sizes)
  const height = heads === undefined ? undefined : shape[0]! / heads
  if (height !== undefined && (height % 2 || !Number.isInteger(height)))
    fail(`its ${shape[0]} rows are not ${heads} heads of an even width; check config.json`)
  return {
    sources: [source],
    name,
    shape: name.endsWith('.ffn_gate_inp_shexp.weight') ? shape.slice(-1) : shape,
    moved: height === undefined ? undefined : { height, of: (r) => rowInHf(r, height) },
    shift: isShifted(family, name) ? 1 : 0,
    packed,
  }
}

/** the type that config.json says of a tensor in the layout `weft`; undefined where it is another codec's */
const packedType = ({ quantization_config: found }: Config, hf: string): GgmlType | undefined => {
  const stored = found as { quant_method?: unknown; weights?: Config; codecs?: readonly Config[] } | undefined
  if (stored?.quant_method !== 'weft' || !stored.weights || !Object.hasOwn(stored.weights, hf)) return undefined
  const codec = stored.codecs?.[stored.weights[hf] as number]
  const type = (codec?.['options'] as { type?: unknown } | undefined)?.type
  return codec?.['name'] === 'gguf' && typeof type === 'string' && type in ggmlTypes ? (type as GgmlType) : undefined
}

/** of a matrix whose file has only its blocks */
const matrixShape = (name: string, config: Config, { heads, kvHeads, headWidth }: GgufSizes): readonly number[] => {
  const c = textConfigOf(config)
  const [width, hidden, vocabulary, shared] = [
    'hidden_size',
    'intermediate_size',
    'vocab_size',
    'shared_expert_intermediate_size',
  ].map((key) => c[key] as number)
  const part = name.replace(/^blk\.\d+\./, '').replace(/\.weight$/, '')
  const shapes: Readonly<Record<string, readonly number[]>> = {
    token_embd: [vocabulary!, width!],
    output: [vocabulary!, width!],
    attn_q: [heads * headWidth, width!],
    attn_k: [kvHeads * headWidth, width!],
    attn_v: [kvHeads * headWidth, width!],
    attn_output: [width!, heads * headWidth],
    ffn_gate: [hidden!, width!],
    ffn_up: [hidden!, width!],
    ffn_down: [width!, hidden!],
    ffn_gate_shexp: [shared!, width!],
    ffn_up_shexp: [shared!, width!],
    ffn_down_shexp: [width!, shared!],
  }
  return shapes[part]!
}

/** blocks as they are, rows in ggml's order, without the padding to whole words */
async function* keptRows(source: TensorSource, { shape, moved, packed }: Plan): AsyncGenerator<Uint8Array> {
  const bytes = rowBytesOf(packed!, shape.at(-1)!)
  for await (const piece of regrouped(source.data, bytes * (moved?.height ?? 1), bytes * shape.at(-2)!))
    yield moved ? movedRows(piece, bytes, moved.height, moved.of) : piece
}

/**
 * The `packed` of `checkpointOf` with which matrices in the codec `gguf` go into a GGUF file as they are, and those of any
 * other codec are decoded first; undefined where there are none.
 */
export const ggufPacked = async (network: Network<any>, names: Names): Promise<PackedWriter | undefined> => {
  const kept = Object.entries(network.weights as Record<string, Weight>).filter(([, w]) => w.codec?.name === 'gguf')
  return kept.length ? weft.writer({ ...network, weights: Object.fromEntries(kept) }, names) : undefined
}

/** bytes of a checkpoint's tensor that are read at a time, about */
const READ = 2 ** 22

/** The tensors of an open checkpoint as sources, read some rows at a time when they are written. */
export const checkpointSources = (checkpoint: Checkpoint): TensorSource[] => {
  const free: Uint8Array[] = [] // memory is touched once, however many pieces are read
  return checkpoint.names.map((name) => {
    const { dtype, shape, bytes } = checkpoint.entry(name)
    return {
      name,
      dtype,
      shape,
      data: async function* () {
        const row = shape.length > 1 ? bytes / shape.slice(0, -1).reduce((a, b) => a * b, 1) : bytes
        const size = row <= READ ? row * Math.max(1, Math.floor(READ / row)) : READ
        const buffer = free.pop() ?? new Uint8Array(READ)
        try {
          for (let at = 0; at < bytes; at += size) {
            const piece = buffer.subarray(0, Math.min(size, bytes - at))
            await checkpoint.readInto(name, piece, at)
            yield piece
          }
        } finally {
          free.push(buffer)
        }
      },
    }
  })
}

/** What a folder says of its tokenizer; undefined without a tokenizer.json. @throws CheckpointError for malformed JSON */
export const tokenizerFiles = async (folder: Folder): Promise<TokenizerFiles | undefined> => {
  const json = async (file: string): Promise<Config | undefined> => {
    if (!(await folder.has(file))) return undefined
    try {
      return JSON.parse(await folder.text(file)) as Config
    } catch (error) {
      throw new CheckpointError(`not valid JSON (${(error as Error).message}); download it again`, {
        file: `${folder.name}/${file}`,
      })
    }
  }
  const tokenizer = await json('tokenizer.json')
  if (!tokenizer) return undefined
  const config = { ...(await json('special_tokens_map.json')), ...(await json('tokenizer_config.json')) } as Config
  const given = config['chat_template']
  const named = Array.isArray(given)
    ? (given as { name?: unknown; template?: unknown }[]).find((t) => t.name === 'default')?.template
    : given
  const template = (await folder.has('chat_template.jinja')) ? await folder.text('chat_template.jinja') : named
  return {
    tokenizer,
    config,
    generation: (await json('generation_config.json')) ?? {},
    model: (await json('config.json')) ?? {},
    ...(typeof template === 'string' && { template }),
  }
}
