import type { Config } from '@weftjs/spec'
import { type ByteSource, CheckpointError, type Dtype, type Folder, fromBytes } from '@weftjs/tensor/checkpoint'
import { configIn, familyIn } from './config-in.ts'
import { type GgufFamily, isShifted, permutedHeads, rowInGguf, toHfExpert, toHfName } from './families.ts'
import { type Fields, fieldsOf } from './field.ts'
import { type GgufGiven, type HeldGguf, holdGguf } from './held.ts'
import type { GgufTensor } from './reader.ts'
import { bytesOfType, type GgmlType, ggmlTypes } from './types.ts'
import { padded, permutedRows, shifted, type VirtualTensor, virtualSafetensors } from './virtual.ts'
import { type MadeTokenizer, vocabularyIn } from './vocabulary-in.ts'

export interface GgufFolderOptions {
  /** files that go before those made here: a tokenizer.json of the model's own, where its kind is not read from GGUF */
  readonly beside?: Folder
}

/** the types that a safetensors file has too */
const PLAIN: Partial<Record<GgmlType, Dtype>> = { F32: 'F32', F16: 'F16', BF16: 'BF16', F64: 'F64' }

/**
 * A GGUF file, or all parts of a split one, as the folder of a Hugging Face model: config.json, the tokenizer's files and
 * a model.safetensors, made when read. Quantized matrices are in it as parts of the codec `gguf`, byte for byte but for
 * the order of the rows of q and k, so that `loadNetwork(folder, { packed: fromPacked })` keeps them packed.
 * On disk: `ggufFolder(() => fromFile(path))`, which holds the file open only while it is read.
 * @throws CheckpointError for a damaged file, and for a model that is not supported
 */
export const ggufFolder = async (
  given: GgufGiven | readonly GgufGiven[],
  { beside }: GgufFolderOptions = {},
): Promise<Folder> => {
  const files: HeldGguf[] = []
  for (const one of [given].flat() as GgufGiven[]) files.push(await holdGguf(one))
  return folderOf(files, beside)
}

const folderOf = async (files: readonly HeldGguf[], beside: Folder | undefined): Promise<Folder> => {
  const first = files[0]!
  const { name } = first
  const fields = fieldsOf(first.metadata, (found) => {
    throw new CheckpointError(found, { file: name })
  })
  if (fields.text('general.type') === 'adapter')
    fields.fail(
      'general.type',
      'the file is an adapter; load the model that it is for, and then it by ggufAdapterFolder',
    )
  const parts = fields.number('split.count') ?? 1
  if (parts > 1 && parts !== files.length)
    fields.fail(
      'split.count',
      `the model is in ${parts} files and ${files.length} were given; give all, the first first`,
    )
  const family = familyIn(fields)
  const tensors = new Map<string, GgufTensor & { readonly file: HeldGguf }>()
  for (const file of files)
    for (const [tensor, found] of file.tensors) {
      if (tensors.has(tensor)) throw new CheckpointError('is in two of the files', { file: file.name, tensor })
      tensors.set(tensor, { ...found, file })
    }
  const embed = tensors.get('token_embd.weight')
  if (embed?.shape.length !== 2)
    throw new CheckpointError('is not there, or no matrix; this is no model that generates text', {
      file: name,
      tensor: 'token_embd.weight',
    })
  const config = configIn(fields, family, {
    has: (t) => tensors.has(t),
    vocabulary: embed.shape[0]!,
    ropeFactors: await ropeFactors(tensors.get('rope_freqs.weight')),
  })
  const { virtual, packing } = layOut([...tensors.values()], family, config)
  const json = (value: unknown): Uint8Array => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)
  let made: MadeTokenizer | undefined
  const tokenizer = (): MadeTokenizer => (made ??= vocabularyIn(fields))
  const ids = (): Config => tokensOf(fields)
  const bytes: Readonly<Record<string, () => Uint8Array>> = {
    'config.json': () => json({ ...config, ...ids(), ...packing }),
    ...(fields.has('tokenizer.ggml.model') && {
      'tokenizer.json': () => json(tokenizer().tokenizer),
      'tokenizer_config.json': () => json(tokenizer().config),
      'generation_config.json': () => json(tokenizer().generation),
    }),
  }
  const checkpoint = 'model.safetensors'
  const own = (file: string): boolean => file === checkpoint || Object.hasOwn(bytes, file)
  const fromBeside = async (file: string): Promise<boolean> =>
    beside !== undefined && file !== checkpoint && file !== 'config.json' && (await beside.has(file))
  const open = async (file: string): Promise<ByteSource> => {
    if (await fromBeside(file)) return beside!.open(file)
    if (file === checkpoint) {
      const releases: (() => Promise<void>)[] = []
      for (const held of files) releases.push(await held.hold())
      return virtualSafetensors(name, virtual, async () => {
        for (const release of releases) await release()
      })
    }
    if (own(file)) return fromBytes(bytes[file]!(), `${name}/${file}`)
    throw new CheckpointError(`has no ${file}; it has ${[...Object.keys(bytes), checkpoint].join(', ')}`, {
      file: name,
    })
  }
  return {
    name,
    open,
    has: async (file) => own(file) || (await fromBeside(file)),
    text: async (file) => {
      const source = await open(file)
      return new TextDecoder().decode(await source.read(0, source.size))
    },
    list: async () => [...Object.keys(bytes), checkpoint],
  }
}

/** ids of special tokens that config.json has too */
const tokensOf = (fields: Fields): Config => {
  const id = (role: string): Config => {
    const found = fields.number(`tokenizer.ggml.${role}_token_id`)
    return found === undefined ? {} : { [`${role === 'padding' ? 'pad' : role}_token_id`]: found }
  }
  return { ...id('bos'), ...id('eos'), ...id('padding') }
}

const ropeFactors = async (found: (GgufTensor & { file: HeldGguf }) | undefined): Promise<Float32Array | undefined> => {
  if (!found) return undefined
  if (found.type !== 'F32' || found.shape.length !== 1 || found.shape[0]! > 65_536)
    throw new CheckpointError(`is ${found.type} [${found.shape}], not a list of float32`, {
      file: found.file.name,
      tensor: found.name,
    })
  return new Float32Array((await found.file.read(found.name)).slice().buffer)
}

/** the tensors under Hugging Face's names and in its order of rows, and the codecs of those that stay packed */
const layOut = (
  tensors: readonly (GgufTensor & { readonly file: HeldGguf })[],
  family: GgufFamily,
  config: Config,
): { virtual: VirtualTensor[]; packing: Config } => {
  const virtual: VirtualTensor[] = []
  const types: GgmlType[] = []
  const weights: Record<string, number> = {}
  const heads = config['num_attention_heads'] as number
  const kvHeads = config['num_key_value_heads'] as number
  const packed = (hf: string, type: GgmlType, bytes: number, read: VirtualTensor['read']): void => {
    if (!types.includes(type)) types.push(type)
    weights[hf] = types.indexOf(type)
    virtual.push({ name: `${hf}.q`, dtype: 'I32', shape: [Math.ceil(bytes / 4)], read: padded(read, bytes) })
  }
  for (const { name, type, shape, start, end, file } of tensors) {
    if (/^rope_freqs\.|\.attn_rot_embd\./.test(name)) continue
    const fail = (found: string): never => {
      throw new CheckpointError(found, { file: file.name, tensor: name })
    }
    const hf = toHfName(family, name) ?? name
    const layout = ggmlTypes[type]
    let read = (from: number, to: number): Promise<Uint8Array> => file.read(name, from, to)
    const permuted = permutedHeads(family, name, { heads, kvHeads })
    if (permuted !== undefined) {
      const height = shape[0]! / permuted
      if (height % 2 || !Number.isInteger(height))
        fail(`its ${shape[0]} rows are not ${permuted} heads of an even width`)
      read = permutedRows(read, bytesOfType(layout, shape[1] ?? 1), height, (r) => rowInGguf(r, height))
    }
    const dtype = PLAIN[type]
    if (isShifted(family, name)) {
      if (type !== 'F32') fail(`is ${type}, and the scale of a norm is float32 in such a file`)
      read = shifted(read, -1)
    }
    const expert = toHfExpert(family, name)
    if (expert) {
      if (shape.length !== 3 || shape[0] !== (config[family.experts!.count] as number))
        fail(`is [${shape}], and the metadata tells of ${config[family.experts!.count]} experts`)
      if (!dtype && layout.size < 2) fail(`is ${type}, which no weight of a model has`)
      const bytes = bytesOfType(layout, shape[1]! * shape[2]!)
      for (let e = 0; e < shape[0]!; e++) {
        const own = (from: number, to: number): Promise<Uint8Array> => read(e * bytes + from, e * bytes + to)
        if (dtype) virtual.push({ name: expert(e), dtype, shape: shape.slice(1), read: own })
        else packed(expert(e), type, bytes, own)
      }
    } else if (dtype) {
      const router = name.endsWith('.ffn_gate_inp_shexp.weight')
      virtual.push({ name: hf, dtype, shape: router ? [1, shape.at(-1)!] : shape, read })
    } else if (layout.size > 1) {
      if (shape.length !== 2) fail(`is ${type} [${shape}], and only matrices are quantized`)
      packed(hf, type, end - start, read)
    } else fail(`is ${type}, which no weight of a model has`)
  }
  const codecs = types.map((type) => ({ name: 'gguf', options: { type } }))
  return { virtual, packing: codecs.length ? { quantization_config: { quant_method: 'weft', codecs, weights } } : {} }
}
