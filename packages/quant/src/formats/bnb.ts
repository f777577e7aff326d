import type { Codec, Config, Params, Tensor, Weight } from '@weftjs/spec'
import { tensor1d } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, decodeFloats, type TensorSource } from '@weftjs/tensor/checkpoint'
import { fromParts } from '@weftjs/weight'
import { DYNAMIC } from '../dynamic8.ts'
import { FP4, fp4 } from '../fp4.ts'
import { int8 } from '../int8.ts'
import type { FourBitOptions } from '../kernels/four-bit.ts'
import { NF4, nf4 } from '../nf4.ts'
import type { Names, PackedFormat, PackedWriter, Part, WeightsToWrite, WeightToWrite } from './format.ts'

/** of the tensors that stay dense, and of what bitsandbytes decodes to */
export type BnbDtype = 'F32' | 'F16' | 'BF16'
const WORDS: Readonly<Record<BnbDtype, string>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }

const FOUR: Readonly<Record<string, { codec: (o: FourBitOptions) => Codec; levels: readonly number[] }>> = {
  nf4: { codec: nf4 as (o: FourBitOptions) => Codec, levels: NF4 },
  fp4: { codec: fp4 as (o: FourBitOptions) => Codec, levels: FP4 },
}
const floatBytes = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

/** the first n bytes of a tensor's memory, read when the tensor's turn comes */
const raw =
  (t: Part, n: number): (() => Promise<Uint8Array>) =>
  async () => {
    const values = await t.data()
    return new Uint8Array(values.buffer, values.byteOffset, n)
  }

/** a number as Python's json writes it */
const pythonFloat = (x: number): string => {
  const size = Math.abs(x)
  if (x !== 0 && (size < 1e-4 || size >= 1e16)) return x.toExponential().replace(/e([+-])(\d)$/, 'e$10$2')
  return Number.isInteger(x) ? `${x}.0` : String(x)
}

export interface BnbOptions {
  readonly dtype?: BnbDtype
}

const byRow = ({ per = 'row' }: Config): boolean => per === 'row'
/** what bitsandbytes can hold: an error for other codecs */
const optionsOf = ({ name, options = {} }: Codec): Required<FourBitOptions> => {
  if (!(name in FOUR) && name !== 'int8')
    throw new Error(`bitsandbytes has no format for the codec '${name}'; use nf4, fp4 or int8`)
  if (name === 'int8' && !byRow(options))
    throw new Error(`bitsandbytes has no format for int8 with scales by ${options['per']}; use per: 'row'`)
  const { block = 64, double = false, doubleBlock = 256 } = options as FourBitOptions
  return { block, double, doubleBlock }
}

/**
 * A packed weight as the tensors of a bitsandbytes checkpoint. `hf` is the weight's name: `….q_proj.weight`.
 * @throws Error when bitsandbytes has no such format, or the weight is not in the codec's
 */
export const toBnb = async (
  hf: string,
  weight: WeightToWrite,
  codec: Codec,
  { dtype = 'F32' }: BnbOptions = {},
): Promise<TensorSource[]> => tensorsOf(hf, weight, codec, dtype, await offsetOf(weight))

const offsetOf = async ({ parts }: WeightToWrite): Promise<number> => (await parts['offset']?.data())?.[0] ?? 0

const tensorsOf = (
  hf: string,
  weight: WeightToWrite,
  codec: Codec,
  dtype: BnbDtype,
  offset: number,
): TensorSource[] => {
  const { block, double, doubleBlock } = optionsOf(codec)
  const { parts, shape } = weight
  if (weight.format !== codec.name)
    throw new Error(`${hf}: is in format '${weight.format}', not '${codec.name}'; quantize it first`)
  const n = shape[0] * shape[1]
  const part = (key: string): Part => parts[key]!
  if (codec.name === 'int8') {
    const stem = hf.replace(/\.weight$/, '')
    return [
      { name: hf, dtype: 'I8', shape, data: raw(part('q'), n) },
      { name: `${stem}.SCB`, dtype: 'F32', shape: [shape[0]], data: raw(part('scale'), 4 * shape[0]) },
      { name: `${stem}.weight_format`, dtype: 'U8', shape: [], data: new Uint8Array(1) },
    ]
  }
  const blocks = Math.ceil(n / block)
  const nested = Math.ceil(blocks / doubleBlock)
  const state = [
    `"quant_type": "${codec.name}", "blocksize": ${block}, "dtype": "${WORDS[dtype]}", "shape": [${shape.join(', ')}]`,
    ...(double
      ? [`"nested_blocksize": ${doubleBlock}, "nested_dtype": "float32", "nested_offset": ${pythonFloat(offset)}`]
      : []),
  ]
  const json = new TextEncoder().encode(`{${state.join(', ')}}`)
  const bytes = Math.ceil(n / 2)
  const levels = Float32Array.from(FOUR[codec.name]!.levels)
  return [
    { name: hf, dtype: 'U8', shape: [bytes, 1], data: raw(part('q'), bytes) },
    {
      name: `${hf}.absmax`,
      dtype: double ? 'U8' : 'F32',
      shape: [blocks],
      data: raw(part('absmax'), double ? blocks : 4 * blocks),
    },
    { name: `${hf}.quant_map`, dtype: 'F32', shape: [16], data: floatBytes(levels) },
    ...(double
      ? ([
          { name: `${hf}.nested_absmax`, dtype: 'F32', shape: [nested], data: raw(part('nested'), 4 * nested) },
          { name: `${hf}.nested_quant_map`, dtype: 'F32', shape: [256], data: floatBytes(DYNAMIC.levels) },
        ] as const)
      : []),
    { name: `${hf}.quant_state.bitsandbytes__${codec.name}`, dtype: 'U8', shape: [json.length], data: json },
  ]
}

/**
 * `quantization_config` of config.json as transformers writes it. `skip` names the linear modules that stay dense, as
 * the checkpoint names them (`lm_head`); null leaves transformers to skip the head.
 */
export const quantizationConfig = (
  codec: Codec,
  { dtype = 'F32', skip = null }: BnbOptions & { readonly skip?: readonly string[] | null } = {},
): Config => {
  const { double } = optionsOf(codec)
  const four = codec.name !== 'int8'
  return {
    quant_method: 'bitsandbytes',
    _load_in_8bit: !four,
    _load_in_4bit: four,
    // llm_int8_threshold stays at its default: transformers insists on a float, and JSON from here has only 6
    llm_int8_skip_modules: skip,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    bnb_4bit_quant_type: four ? codec.name : 'fp4',
    bnb_4bit_use_double_quant: double,
    bnb_4bit_compute_dtype: WORDS[dtype],
    bnb_4bit_quant_storage: 'uint8',
    load_in_4bit: four,
    load_in_8bit: !four,
  }
}

/**
 * How a quantized network is written so that transformers with bitsandbytes loads it: the `packed` of `saveNetwork`.
 * `names` says which of the checkpoint's names each weight has: `[...namesOf(network.config)]`.
 */
export const bnbWriter = async (
  { weights }: WeightsToWrite,
  codec: Codec,
  names: Names,
  { dtype = 'F32' }: BnbOptions = {},
): Promise<PackedWriter> => {
  optionsOf(codec)
  const offsets = new Map<WeightToWrite, number>()
  for (const weight of Object.values(weights))
    if (weight.format === codec.name) offsets.set(weight, await offsetOf(weight))
  if (!offsets.size) throw new Error(`no weight of the network is in format '${codec.name}'; quantize it first`)
  const skip = [...names]
    .filter(({ name }) => name in weights && name !== 'embed' && !offsets.has(weights[name]!))
    .map(({ hf }) => hf.replace(/\.weight$/, ''))
  return {
    tensors: (hf, weight) =>
      offsets.has(weight) ? tensorsOf(hf, weight, codec, dtype, offsets.get(weight)!) : undefined,
    // a list of its own takes the place of transformers' default, which is to skip the head, tied or not
    config: {
      quantization_config: quantizationConfig(codec, {
        dtype,
        skip: skip.length ? [...new Set(['lm_head', ...skip])] : null,
      }),
    },
  }
}

/**
 * A weight of a bitsandbytes checkpoint (4-bit or LLM.int8), undefined where the tensor is an ordinary one: the
 * `packed` of `loadNetwork`.
 * @throws CheckpointError that names the tensor when its parts are missing, malformed, or not of the shape asked for
 */
export const fromBnb = async (
  checkpoint: Checkpoint,
  hf: string,
  shape: readonly [number, number],
): Promise<Weight | undefined> => {
  const stem = hf.replace(/\.weight$/, '')
  if (checkpoint.has(`${stem}.SCB`)) return readInt8(checkpoint, hf, stem, shape)
  for (const kind of Object.keys(FOUR))
    if (checkpoint.has(`${hf}.quant_state.bitsandbytes__${kind}`)) return readFour(checkpoint, hf, kind, shape)
  return undefined
}

const wrong = ({ name: file }: Checkpoint, tensor: string, found: string): CheckpointError =>
  new CheckpointError(`${found}; download the checkpoint again`, { file, tensor })

const words = (bytes: Uint8Array): Tensor => {
  const padded = new Uint8Array(Math.ceil(bytes.length / 4) * 4)
  padded.set(bytes)
  return tensor1d(new Int32Array(padded.buffer), 'int32')
}

/** exactly `count` float32 numbers */
const floats = async (checkpoint: Checkpoint, name: string, count: number): Promise<Float32Array> => {
  const { dtype, data } = await checkpoint.read(name)
  const values = decodeFloats(dtype, data, { file: checkpoint.name, tensor: name })
  if (values.length !== count) throw wrong(checkpoint, name, `has ${values.length} numbers where ${count} are needed`)
  return values
}

const bytesOf = async (checkpoint: Checkpoint, name: string, count: number): Promise<Uint8Array> => {
  const { data } = await checkpoint.read(name)
  if (data.byteLength !== count) throw wrong(checkpoint, name, `has ${data.byteLength} bytes where ${count} are needed`)
  return data
}

const mustHaveLevels = async (checkpoint: Checkpoint, name: string, levels: ArrayLike<number>): Promise<void> => {
  const found = await floats(checkpoint, name, levels.length)
  const at = found.findIndex((v, i) => !(Math.abs(v - levels[i]!) < 1e-6))
  if (at >= 0)
    throw new CheckpointError(
      `level ${at} is ${found[at]}, ours ${levels[at]}; a code book of its own is not supported`,
      {
        file: checkpoint.name,
        tensor: name,
      },
    )
}

const readInt8 = async (
  checkpoint: Checkpoint,
  hf: string,
  stem: string,
  shape: readonly [number, number],
): Promise<Weight> => {
  const { dtype, shape: found } = checkpoint.entry(hf)
  if (dtype !== 'I8' || found.join() !== shape.join())
    throw wrong(checkpoint, hf, `is ${dtype} [${found}] where I8 [${shape}] is needed beside its SCB`)
  const format = `${stem}.weight_format`
  if (checkpoint.has(format) && (await bytesOf(checkpoint, format, 1))[0] !== 0)
    throw wrong(checkpoint, format, 'is not 0: only the row-major layout is supported')
  const scale = await floats(checkpoint, `${stem}.SCB`, shape[0])
  const q = await bytesOf(checkpoint, hf, shape[0] * shape[1])
  return fromParts(int8() as Codec, { q: words(q), scale: tensor1d(scale) }, shape)
}

const readFour = async (
  checkpoint: Checkpoint,
  hf: string,
  kind: string,
  shape: readonly [number, number],
): Promise<Weight> => {
  const at = `${hf}.quant_state.bitsandbytes__${kind}`
  const text = new TextDecoder().decode((await checkpoint.read(at)).data)
  let state: Config
  try {
    state = JSON.parse(text)
  } catch {
    throw wrong(checkpoint, at, 'is not valid JSON')
  }
  const { blocksize: block, shape: stated, nested_blocksize: doubleBlock, nested_offset: offset } = state ?? {}
  if (!Array.isArray(stated) || stated.join() !== shape.join())
    throw wrong(checkpoint, at, `says shape ${JSON.stringify(stated)} where [${shape}] is needed`)
  const double = doubleBlock !== undefined
  if (double && typeof offset !== 'number') throw wrong(checkpoint, at, 'has nested scales without nested_offset')
  let codec: Codec
  try {
    codec = FOUR[kind]!.codec({ block: block as number, double, ...(double && { doubleBlock: doubleBlock as number }) })
  } catch (error) {
    throw wrong(checkpoint, at, (error as Error).message)
  }
  const n = shape[0] * shape[1]
  const blocks = Math.ceil(n / (block as number))
  const nested = Math.ceil(blocks / (double ? (doubleBlock as number) : 1))
  await mustHaveLevels(checkpoint, `${hf}.quant_map`, FOUR[kind]!.levels)
  if (double) await mustHaveLevels(checkpoint, `${hf}.nested_quant_map`, DYNAMIC.levels)
  // other storage dtypes hold the same bytes, filled up to whole elements
  const { data } = await checkpoint.read(hf)
  const bytes = Math.ceil(n / 2)
  if (data.byteLength < bytes || data.byteLength >= bytes + 4)
    throw wrong(checkpoint, hf, `has ${data.byteLength} bytes where ${bytes} are needed`)
  const scales: Params = double
    ? {
        absmax: words(await bytesOf(checkpoint, `${hf}.absmax`, blocks)),
        nested: tensor1d(await floats(checkpoint, `${hf}.nested_absmax`, nested)),
        offset: tensor1d([offset as number]),
      }
    : { absmax: tensor1d(await floats(checkpoint, `${hf}.absmax`, blocks)) }
  return fromParts(codec, { q: words(data.subarray(0, bytes)), ...scales }, shape)
}

/** bitsandbytes' 4-bit layout and LLM.int8's, as transformers keeps them */
export const format: PackedFormat = {
  name: 'bitsandbytes',
  holds: ({ name, options = {} }) => name in FOUR || (name === 'int8' && byRow(options)),
  read: fromBnb,
  writer: async (network, names) => {
    const codecs = Object.values(network.weights).flatMap(({ codec }) => (codec && format.holds(codec) ? [codec] : []))
    const [first] = codecs
    if (!first)
      throw new Error('no weight of the network is in a format of bitsandbytes; quantize it to nf4, fp4 or int8')
    const text = describe(first)
    const other = codecs.find((c) => describe(c) !== text)
    if (other)
      throw new Error(
        `one bitsandbytes checkpoint cannot hold both ${text} and ${describe(other)}; quantize with one codec`,
      )
    return bnbWriter(network, first, names)
  },
}
const describe = ({ name, options }: Codec): string => `${name} ${JSON.stringify(options ?? {})}`
