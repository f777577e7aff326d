import type { Codec, Config, Tensor, Weight } from '@weftjs/spec'
import { tensor1d } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, decodeInts, type TensorSource } from '@weftjs/tensor/checkpoint'
import { fromParts } from '@weftjs/weight'
import { type HqqOptions, hqq } from '../hqq.ts'
import type { ConstantsDtype } from '../kernels/constants.ts'
import { bytesOf } from '../kernels/loop.ts'
import type { Names, PackedFormat, PackedWriter, Part, WeightsToWrite, WeightToWrite } from './format.ts'
import { packedRows, packHqq, packingOf, unpackHqq } from './hqq-pack.ts'

const TORCH: Readonly<Record<ConstantsDtype, string>> = {
  F32: 'torch.float32',
  F16: 'torch.float16',
  BF16: 'torch.bfloat16',
}
type Options = Required<HqqOptions>
type Shape = readonly [number, number]

/** numbers of a group, and the grouped matrix */
const matrixOf = ({ group, axis }: Options, [out, width]: Shape): { size: number; rows: number; columns: number } => {
  const size = group > 0 ? group : axis === 1 ? width : out
  const count = (out * width) / size
  return axis === 1 ? { size, rows: count, columns: size } : { size, rows: size, columns: count }
}

const words = (data: Uint8Array): Tensor => {
  const padded = new Uint8Array(Math.ceil(data.length / 4) * 4)
  padded.set(data)
  return tensor1d(new Int32Array(padded.buffer), 'int32')
}
/** the first n bytes of a part */
const raw =
  (t: Part, n: number): (() => Promise<Uint8Array>) =>
  async () =>
    bytesOf((await t.data()) as Int32Array).subarray(0, n)

/**
 * A layer of an hqq checkpoint, `….q_proj.W_q` with its scale, zero and settings; undefined where the tensor is an
 * ordinary one. Three settings are the file's: bits, group and axis; which zero point was kept it does not say.
 * @throws CheckpointError that names the tensor when its parts are missing, malformed, or not of the shape asked for
 */
export const fromHqq = async (checkpoint: Checkpoint, hf: string, shape: Shape): Promise<Weight | undefined> => {
  const stem = hf.replace(/\.weight$/, '')
  const at = (key: string): string => `${stem}.${key}`
  if (!checkpoint.has(at('W_q'))) return undefined
  const wrong = (key: string, found: string, remedy = 'download the checkpoint again'): CheckpointError =>
    new CheckpointError(`${found}; ${remedy}`, { file: checkpoint.name, tensor: at(key) })
  const there = (key: string): boolean => checkpoint.has(at(key))
  const read = async (key: string, most: number): Promise<{ dtype: string; data: Uint8Array }> => {
    if (!there(key)) throw wrong('W_q', `has no '${key}' beside it`)
    const { dtype, shape: found } = checkpoint.entry(at(key))
    if (found.reduce((n, d) => n * d, 1) > most) throw wrong(key, `has shape [${found}], which is too much`)
    return { dtype, data: (await checkpoint.read(at(key))).data }
  }
  /** one number, whatever its dtype */
  const number = async (key: string): Promise<number> => {
    const { dtype } = await read(key, 1)
    const float = dtype.startsWith('F') || dtype === 'BF16'
    const [value] = float ? await checkpoint.floats(at(key)) : await checkpoint.ints(at(key))
    if (value === undefined) throw wrong(key, 'is empty')
    return value
  }
  const flag = async (key: string, otherwise: boolean): Promise<boolean> =>
    there(key) ? (await number(key)) !== 0 : otherwise
  if ((await flag('quant_scale', false)) || (await flag('quant_zero', false)) || !there('scale') || !there('zero'))
    throw wrong(
      'W_q',
      'has scales or zero points that are quantized themselves',
      'quantize without quant_scale and quant_zero',
    )
  const stated = await read('shape', 2)
  const sides = [...decodeInts(stated.dtype as 'I64', stated.data, { file: checkpoint.name, tensor: at('shape') })]
  if (sides.join() !== shape.join()) throw wrong('shape', `says [${sides}] where [${shape}] is needed`)
  const nbits = await number('nbits')
  const bits = Math.abs(nbits - 1.58) < 1e-3 ? 1.58 : nbits
  const { dtype } = checkpoint.entry(at('scale'))
  const optimize = await flag('optimize', true)
  const options = {
    ...{ bits, group: await number('group_size'), axis: (await number('axis')) as 0 | 1, optimize },
    ...{ roundZero: await flag('round_zero', bits === 4), dtype: dtype as ConstantsDtype },
  }
  let codec: Codec<any>
  let layout: Readonly<Record<string, { shape: readonly (number | null)[] }>>
  let rows: number
  try {
    codec = hqq(options)
    layout = codec.layout!(shape)
    rows = packedRows(bits, matrixOf(codec.options as unknown as Options, shape).rows)
  } catch (error) {
    throw wrong('W_q', (error as Error).message)
  }
  const matrix = matrixOf(codec.options as unknown as Options, shape)
  const packing = packingOf(bits)
  const said = there('packing') ? new TextDecoder().decode((await read('packing', 64)).data) : packing.name
  if (said !== packing.name) throw wrong('packing', `is '${said}' where ${bits} bits are packed as ${packing.name}`)
  const bytes = rows * matrix.columns * packing.bytes
  const { data } = await read('W_q', bytes)
  if (data.byteLength !== bytes) throw wrong('W_q', `has ${data.byteLength} bytes where ${bytes} are needed`)
  const count = (matrix.rows * matrix.columns) / matrix.size
  const parts: Record<string, Tensor> = {}
  for (const key of ['scale', 'zero'] as const) {
    const entry = checkpoint.entry(at(key))
    const found = entry.shape.reduce((n, d) => n * d, 1)
    if (entry.dtype !== dtype || found !== count)
      throw wrong(key, `is ${entry.dtype} [${entry.shape}] where ${count} numbers of ${dtype} are needed`)
    const { data } = await checkpoint.read(at(key))
    parts[key] =
      layout[key]!.shape[0] === count && dtype === 'F32' ? tensor1d(await checkpoint.floats(at(key))) : words(data)
  }
  parts['q'] = tensor1d(unpackHqq(data, bits, matrix.rows, matrix.columns), 'int32')
  return fromParts(codec, parts, shape)
}

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text)
const scalar = (name: string, dtype: 'I32' | 'U8' | 'F32', value: number): TensorSource => ({
  name,
  dtype,
  shape: [],
  data: new Uint8Array((dtype === 'U8' ? Uint8Array : dtype === 'I32' ? Int32Array : Float32Array).of(value).buffer),
})

/** A packed weight as the tensors of an hqq layer. `hf` is the weight's name: `….q_proj.weight`. */
export const toHqq = (hf: string, { codec, parts, shape }: WeightToWrite): readonly TensorSource[] => {
  if (codec?.name !== 'hqq')
    throw new Error(`${hf}: is in format '${codec?.name ?? 'dense'}', not 'hqq'; quantize it first`)
  const options = codec.options as unknown as Options
  const { bits, axis, optimize, roundZero, dtype } = options
  const { size, rows, columns } = matrixOf(options, shape)
  const packing = packingOf(bits)
  const stem = hf.replace(/\.weight$/, '')
  const at = (key: string): string => `${stem}.${key}`
  const { q, scale, zero } = parts
  const groups = axis === 1 ? [rows, 1] : [1, columns]
  const count = groups[0]! * groups[1]!
  const text = (key: string, value: string): TensorSource => ({
    ...{ name: at(key), dtype: 'U8', shape: [value.length], data: ascii(value) },
  })
  const flag = (key: string, value: boolean): TensorSource => scalar(at(key), 'U8', Number(value))
  const numbers = (key: string, t: Part): TensorSource => ({
    ...{ name: at(key), dtype, shape: groups, data: raw(t, count * (dtype === 'F32' ? 4 : 2)) },
  })
  return [
    {
      name: at('W_q'),
      dtype: packing.bytes === 4 ? 'I32' : 'U8',
      shape: [packedRows(bits, rows), columns],
      data: async () => packHqq((await q!.data()) as Int32Array, bits, rows, columns),
    },
    numbers('scale', scale!),
    numbers('zero', zero!),
    scalar(at('nbits'), Number.isInteger(bits) ? 'I32' : 'F32', bits),
    scalar(at('group_size'), 'I32', size),
    scalar(at('axis'), 'I32', axis),
    { name: at('shape'), dtype: 'I64', shape: [2], data: new Uint8Array(BigInt64Array.from(shape, BigInt).buffer) },
    text('packing', packing.name),
    text('unpack_view_dtype', packing.dtype),
    text('compute_dtype', TORCH[dtype]),
    flag('view_as_float', false),
    flag('quant_scale', false),
    flag('quant_zero', false),
    flag('offload_meta', false),
    flag('encoded_state_dict', true),
    flag('stores_quant_config', true),
    flag('channel_wise', true),
    flag('optimize', optimize),
    flag('round_zero', roundZero),
  ]
}

/** hqq's settings of a layer, as its `BaseQuantizeConfig` has them */
const settings = (options: Options, shape: Shape): Config => ({
  weight_quant_params: {
    nbits: options.bits,
    channel_wise: true,
    group_size: matrixOf(options, shape).size,
    optimize: options.optimize,
    round_zero: options.roundZero,
    axis: options.axis,
    view_as_float: false,
  },
  scale_quant_params: null,
  zero_quant_params: null,
  offload_meta: false,
})

const writer = async ({ weights }: WeightsToWrite, names: Names): Promise<PackedWriter> => {
  const modules = [...names].flatMap(({ hf, name }) => {
    const weight = weights[name]
    return weight && name !== 'embed' ? [{ module: hf.replace(/\.weight$/, ''), weight }] : []
  })
  const ours = modules.filter(({ weight }) => weight.codec?.name === 'hqq')
  if (!ours.length) throw new Error("no weight of the network is in format 'hqq'; quantize it first")
  // by the name that the module has in every layer, where not all are alike
  const tags = new Map<string, Config>()
  for (const { module, weight } of ours) {
    const options = weight.codec!.options as unknown as Options
    packedRows(options.bits, matrixOf(options, weight.shape).rows)
    const tag = module.replace(/^.*\.\d+\./, '')
    const config = settings(options, weight.shape)
    const before = tags.get(tag)
    if (before && JSON.stringify(before) !== JSON.stringify(config))
      throw new Error(`${module}: hqq has one setting for ${tag} in all layers; quantize it alike everywhere`)
    tags.set(tag, config)
  }
  const [first] = tags.values()
  const alike = [...tags.values()].every((c) => JSON.stringify(c) === JSON.stringify(first))
  const skip = modules.filter(({ weight }) => weight.codec?.name !== 'hqq').map(({ module }) => module)
  return {
    tensors: (hf, weight) => (weight.codec?.name === 'hqq' ? toHqq(hf, weight) : undefined),
    config: {
      quantization_config: {
        quant_method: 'hqq',
        quant_config: alike ? first : Object.fromEntries(tags),
        skip_modules: [...new Set(['lm_head', ...skip])],
      },
    },
  }
}

/** hqq's layers as their state dict has them in safetensors, and as transformers names them in config.json */
export const format: PackedFormat = { name: 'hqq', holds: ({ name }) => name === 'hqq', read: fromHqq, writer }
