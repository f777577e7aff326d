import type { Codec, Config, Params, Weight } from '@weftjs/spec'
import { tensor, tensor1d } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, encodeFloats, type TensorSource } from '@weftjs/tensor/checkpoint'
import { fromParts } from '@weftjs/weight'
import { type GptqOptions, gptq, halved } from '../gptq.ts'
import { packStream, streamAt, unpackStream } from '../kernels/stream.ts'
import type { Names, PackedFormat, PackedWriter, Part, WeightsToWrite, WeightToWrite } from './format.ts'

type Shape = readonly [out: number, width: number]
type Options = Required<GptqOptions>
export interface GptqFormatOptions {
  /** 1: zero points are stored less one, which every reader knows; 2: as they are. By default 1, or 2 where one is 0 */
  readonly version?: 1 | 2
}

const transposed = <T extends Int32Array | Float32Array>(x: T, rows: number, columns: number): T => {
  const y = new (x.constructor as new (n: number) => T)(x.length)
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) y[j * rows + i] = x[i * columns + j]!
  return y
}
/** codes of a matrix whose stored column j is column `order[j]`, or with `back` the other way round */
const reordered = (q: Int32Array, bits: number, [out, width]: Shape, order: Int32Array, back: boolean): Int32Array => {
  const codes = new Uint8Array(out * width)
  for (let at = 0; at < codes.length; at += width)
    for (let j = 0; j < width; j++) {
      const [to, from] = back ? [order[j]!, j] : [j, order[j]!]
      codes[at + to] = streamAt(q, bits, at + from)
    }
  return packStream(codes, bits)
}

/**
 * A layer of a GPTQ checkpoint, `….q_proj.qweight` with its zeros, scales and g_idx; undefined where the tensor is an
 * ordinary one. Bits are told by the shapes, so that a file without `quantization_config` can be read too (as version 1).
 * Zeros are taken modulo 2^bits. @throws CheckpointError that names the tensor when its parts are missing or malformed
 */
export const fromGptq = async (
  checkpoint: Checkpoint,
  hf: string,
  shape: Shape,
  config: Config,
): Promise<Weight | undefined> => {
  const [out, width] = shape
  const stem = hf.replace(/\.weight$/, '')
  const at = (key: string): string => `${stem}.${key}`
  const stored = config['quantization_config'] as Config | undefined
  const named = stored?.['quant_method'] === 'gptq'
  if (!checkpoint.has(at('qweight')) || !(named || (!stored && checkpoint.has(at('g_idx'))))) return undefined
  const wrong = (key: string, found: string, remedy = 'download the checkpoint again'): CheckpointError =>
    new CheckpointError(`${found}; ${remedy}`, { file: checkpoint.name, tensor: at(key) })
  const layout = stored?.['checkpoint_format'] ?? 'gptq'
  if (layout !== 'gptq' && layout !== 'gptq_v2')
    throw wrong('qweight', `is in the layout ${JSON.stringify(layout)}`, 'convert it to gptq or gptq_v2')
  /** the tensor's shape, where it is of this kind and rank */
  const sides = (key: string, kinds: readonly string[], rank: number): readonly number[] => {
    if (!checkpoint.has(at(key))) throw wrong('qweight', `has no '${key}' beside it`)
    const { dtype, shape: found } = checkpoint.entry(at(key))
    if (!kinds.includes(dtype) || found.length !== rank)
      throw wrong(key, `is ${dtype} [${found}] where ${kinds.join(' or ')} with ${rank} dimensions is needed`)
    return found
  }
  const must = (key: string, found: readonly number[], wanted: readonly number[]): void => {
    if (found.join() !== wanted.join()) throw wrong(key, `is [${found}] where [${wanted}] is needed`)
  }
  const packedSides = sides('qweight', ['I32'], 2)
  const bits = (32 * packedSides[0]!) / width
  if (![2, 3, 4, 8].includes(bits) || packedSides[1] !== out)
    throw wrong('qweight', `is [${packedSides}], no packing of [${out}, ${width}] in 2, 3, 4 or 8 bits`)
  const scaleSides = sides('scales', ['F16', 'BF16', 'F32'], 2)
  const groups = scaleSides[0]!
  const said = Number(stored?.['group_size'])
  const group = said > 0 && width % said === 0 && width / said === groups ? said : groups === 1 ? -1 : width / groups
  const size = group === -1 ? width : group
  if (!Number.isInteger(size) || size < 1)
    throw wrong(
      'scales',
      `has ${groups} groups, which do not divide ${width} inputs`,
      'groups of one size are supported',
    )
  must('scales', scaleSides, [groups, out])
  if ((out * bits) % 32) throw wrong('qzeros', `of ${out} outputs do not fill words`)
  must('qzeros', sides('qzeros', ['I32'], 2), [groups, (out * bits) / 32])
  if (checkpoint.has(at('g_idx'))) must('g_idx', sides('g_idx', ['I32', 'I64'], 1), [width])

  const order = checkpoint.has(at('g_idx')) ? orderOf(await checkpoint.ints(at('g_idx')), size) : undefined
  if (order === null) throw wrong('g_idx', `names groups of other sizes than ${size}`, 'those are not supported')
  const scale = transposed(await checkpoint.floats(at('scales')), groups, out) // [out, G]
  const odd = scale.findIndex((s) => !(Math.abs(s) <= 65504))
  if (odd >= 0) throw wrong('scales', `is ${scale[odd]} at [${odd % groups}, ${Math.floor(odd / groups)}]`)
  const mask = 2 ** bits - 1
  const less = layout === 'gptq' ? 1 : 0
  const zeros = unpackStream(await checkpoint.ints(at('qzeros')), bits, groups * out).map((z) => (z + less) & mask)
  const symmetric = zeros.every((z) => z === 2 ** (bits - 1))
  const natural = transposed(await checkpoint.ints(at('qweight')), packedSides[0]!, out)
  const act = stored?.['desc_act'] === true
  const damp = Number(stored?.['damp_percent'] ?? 0.01)
  const codec = gptq({
    ...{ bits: bits as 4, group, symmetric, actOrder: act || order !== undefined },
    ...{ staticGroups: act && !order && groups > 1, damp: damp >= 0 && damp < 1 ? damp : 0.01 },
  })
  const place = order?.slice()
  order?.forEach((column, j) => {
    place![column] = j
  })
  const parts: Params = {
    q: tensor1d(order ? reordered(natural, bits, shape, order, false) : natural, 'int32'),
    scale: tensor1d(halved(scale)),
    ...(!symmetric && { zero: tensor1d(packStream(transposed(zeros, groups, out), bits), 'int32') }),
    ...(order && { order: tensor([...order, ...place!], [2, width], 'int32') }),
  }
  return fromParts(codec as Codec<any>, parts, shape)
}

/** columns by their groups; undefined where they are in order already, null where groups are not of this size */
const orderOf = (groupOf: Int32Array, size: number): Int32Array | undefined | null => {
  if (groupOf.every((g, i) => g === Math.floor(i / size))) return undefined
  const order = Int32Array.from(groupOf.keys()).sort((a, b) => groupOf[a]! - groupOf[b]! || a - b)
  return order.every((column, j) => groupOf[column] === Math.floor(j / size)) ? order : null
}

const optionsOf = ({ options }: Codec<any>): Options => options as unknown as Options
const isOurs = ({ codec }: WeightToWrite): boolean => codec?.name === 'gptq'

/** one layer's tensors @throws Error where 32 divides not both sides, as the readers of the format need */
const tensorsOf = (hf: string, { parts, codec, shape }: WeightToWrite, version: 1 | 2): TensorSource[] => {
  const [out, width] = shape
  const { bits, group, symmetric } = optionsOf(codec!)
  const size = group === -1 ? width : group
  const groups = width / size
  const mask = 2 ** bits - 1
  const stem = hf.replace(/\.weight$/, '')
  const ints = async (t: Part): Promise<Int32Array> => (await t.data()) as Int32Array
  const bytes = ({ buffer, byteOffset, byteLength }: Int32Array): Uint8Array =>
    new Uint8Array(buffer, byteOffset, byteLength)
  const order = async (): Promise<Int32Array | undefined> =>
    parts['order'] && (await ints(parts['order'])).slice(0, width)
  return [
    {
      ...{ name: `${stem}.qweight`, dtype: 'I32', shape: [(width * bits) / 32, out] },
      data: async () => {
        const [q, by] = [await ints(parts['q']!), await order()]
        return bytes(transposed(by ? reordered(q, bits, shape, by, true) : q, out, (width * bits) / 32))
      },
    },
    {
      ...{ name: `${stem}.qzeros`, dtype: 'I32', shape: [groups, (out * bits) / 32] },
      data: async () => {
        const zeros = symmetric
          ? new Int32Array(groups * out).fill(2 ** (bits - 1))
          : transposed(unpackStream(await ints(parts['zero']!), bits, groups * out), out, groups)
        return bytes(
          packStream(
            zeros.map((z) => (version === 1 ? z - 1 : z) & mask),
            bits,
          ),
        )
      },
    },
    {
      ...{ name: `${stem}.scales`, dtype: 'F16', shape: [groups, out] },
      data: async () =>
        encodeFloats('F16', transposed((await parts['scale']!.data()) as Float32Array, out, groups), { tensor: hf }),
    },
    {
      ...{ name: `${stem}.g_idx`, dtype: 'I32', shape: [width] },
      data: async () => {
        const by = await order()
        const groupOf = new Int32Array(width)
        for (let j = 0; j < width; j++) groupOf[by ? by[j]! : j] = Math.floor(j / size)
        return bytes(groupOf)
      },
    },
  ]
}

/** is some zero point 0? stored less one it is the largest code, which not every reader brings back */
const hasZeroAtZero = async (weights: readonly WeightToWrite[]): Promise<boolean> => {
  for (const { parts, codec } of weights) {
    const { bits } = optionsOf(codec!)
    const zero = parts['zero']
    if (zero && unpackStream((await zero.data()) as Int32Array, bits, parts['scale']!.size).includes(0)) return true
  }
  return false
}

/** which modules of a block are packed, where not all are: the same in every block */
const modulesOf = (weights: WeightsToWrite['weights'], names: Names): readonly (readonly string[])[] | undefined => {
  const blocks = new Map<string, string[]>()
  let some = false
  for (const { hf, name } of names) {
    const [, block, module] = /^(.*?\.\d+)\.(.+)\.weight$/.exec(hf) ?? []
    if (!weights[name] || !name.startsWith('blocks.')) continue
    if (!isOurs(weights[name]!)) some = true
    else if (block !== undefined) blocks.set(block, [...(blocks.get(block) ?? []), module!])
  }
  if (!some) return undefined
  const [first, ...rest] = [...blocks.values()]
  if (rest.some((r) => r.join() !== first!.join()))
    throw new Error('gptq: packs the same modules in every block; quantize the same ones in each')
  return [first!]
}

/** How a network quantized with `gptq` is written so that AutoGPTQ, GPTQModel, transformers and vLLM read it. */
export const gptqWriter = async (
  { weights }: WeightsToWrite,
  names: Names,
  { version }: GptqFormatOptions = {},
): Promise<PackedWriter> => {
  const list = [...names].filter(({ name }) => weights[name])
  const packed = list.filter(({ name }) => isOurs(weights[name]!))
  if (!packed.length) throw new Error(`no weight of the network is in format 'gptq'; quantize it first`)
  const all = packed.map(({ name }) => weights[name]!)
  const { bits, group, damp } = optionsOf(all[0]!.codec!)
  for (const { name } of packed) {
    const { shape, codec } = weights[name]!
    const own = optionsOf(codec!)
    if (own.bits !== bits || own.group !== group)
      throw new Error(`${name}: ${own.bits} bits in groups of ${own.group}, others ${bits} in ${group}; gptq names one`)
    if (shape.some((n) => n % 32)) throw new Error(`${name}: [${shape}]: gptq needs sides that 32 divides`)
    if (name === 'embed') throw new Error('embed: gptq packs linear layers only; leave the embedding dense')
  }
  const some = (test: (o: Options) => boolean): boolean => all.some(({ codec }) => test(optionsOf(codec!)))
  const kept = version ?? ((await hasZeroAtZero(all)) ? 2 : 1)
  const modules = modulesOf(weights, list)
  return {
    tensors: (hf, weight) => (isOurs(weight) ? tensorsOf(hf, weight, kept) : undefined),
    config: {
      quantization_config: {
        ...{ quant_method: 'gptq', bits, group_size: group, checkpoint_format: kept === 1 ? 'gptq' : 'gptq_v2' },
        ...{ desc_act: some((o) => o.actOrder), static_groups: some((o) => o.staticGroups), true_sequential: true },
        ...{ sym: !some((o) => !o.symmetric), damp_percent: damp, pack_dtype: 'int32' },
        lm_head: packed.some(({ name }) => name === 'head'),
        ...(modules && { modules_in_block_to_quantize: modules }),
      },
    },
  }
}

/** GPTQ's packed layers, versions 1 and 2, as AutoGPTQ and GPTQModel write them */
export const format: PackedFormat = {
  name: 'gptq',
  holds: ({ name }) => name === 'gptq',
  read: fromGptq,
  writer: gptqWriter,
}
