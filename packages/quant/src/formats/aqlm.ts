import type { Codec, Weight } from '@weftjs/spec'
import { tensor1d } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, type TensorSource } from '@weftjs/tensor/checkpoint'
import { fromParts } from '@weftjs/weight'
import { type AqlmOptions, type AqlmParts, aqlm } from '../aqlm.ts'
import { F16 } from '../kernels/half.ts'
import { packStream, unpackStream } from '../kernels/stream.ts'
import type { PackedFormat, WeightToWrite } from './format.ts'

type Shape = readonly [number, number]
/** what config.json says once for all weights */
const layoutOf = ({
  options = {},
}: Codec<any>): Required<Pick<AqlmOptions, 'codebooks' | 'bits' | 'group' | 'outGroup'>> => {
  const { codebooks = 2, bits = 8, group = 8, outGroup = 1 } = options as AqlmOptions
  return { codebooks, bits, group, outGroup }
}
const bytesOf = (values: Int8Array | Int16Array | Uint16Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

const read = async (checkpoint: Checkpoint, hf: string, shape: Shape): Promise<Weight | undefined> => {
  const stem = hf.replace(/weight$/, '')
  const [codes, books, scales] = ['codes', 'codebooks', 'scales'].map((part) => `${stem}${part}`) as [
    string,
    string,
    string,
  ]
  if (!checkpoint.has(codes) || !checkpoint.has(books)) return undefined
  const wrong = (tensor: string, found: string): CheckpointError =>
    new CheckpointError(`${found}; download the checkpoint again`, { file: checkpoint.name, tensor })
  const [C = 0, size = 0, outGroup = 0, group = 0, ...more] = checkpoint.entry(books).shape
  const bits = Math.log2(size)
  let codec: Codec
  try {
    if (more.length || !Number.isInteger(bits)) throw new Error(`is [${checkpoint.entry(books).shape}]`)
    codec = aqlm({ codebooks: C, bits, group, outGroup }) as Codec
    codec.layout!(shape)
  } catch (error) {
    throw wrong(books, `holds no code books [C, 2^bits, outGroup, group] for [${shape}]: ${(error as Error).message}`)
  }
  const [tall, wide] = [shape[0] / outGroup, shape[1] / group]
  const must = (tensor: string, wanted: readonly number[], dtypes: readonly string[]): void => {
    const { dtype, shape: found } = checkpoint.entry(tensor)
    if (found.join() !== wanted.join() || !dtypes.includes(dtype))
      throw wrong(tensor, `is ${dtype} [${found}] where ${dtypes.join(' or ')} [${wanted}] is needed`)
  }
  must(codes, [tall, wide, C], bits <= 8 ? ['I8', 'U8'] : ['I16', 'U16'])
  must(books, [C, size, outGroup, group], ['F16', 'BF16', 'F32'])
  must(scales, [tall, 1, 1, 1], ['F16', 'BF16', 'F32'])
  // a code of the upper half stands as a negative number: its last bits are the code
  const all = Int32Array.from(await checkpoint.ints(codes), (v) => Number(v) & (size - 1))
  const n = C * size * outGroup * group
  const halves = new Uint16Array(2 * Math.ceil(n / 2))
  const stored = await checkpoint.read(books)
  if (stored.dtype === 'F16') bytesOf(halves).set(stored.data)
  else halves.set(Uint16Array.from(await checkpoint.floats(books), F16.to))
  const parts: AqlmParts = {
    q: tensor1d(packStream(all, bits), 'int32'),
    books: tensor1d(new Int32Array(halves.buffer), 'int32'),
    scale: tensor1d(await checkpoint.floats(scales)),
  }
  return fromParts(codec, parts, shape)
}

const tensorsOf = (hf: string, { parts, codec, shape }: WeightToWrite): TensorSource[] => {
  const { codebooks, bits, group, outGroup } = layoutOf(codec!)
  const stem = hf.replace(/weight$/, '')
  const { q, books, scale } = parts as AqlmParts
  const [tall, wide] = [shape[0] / outGroup, shape[1] / group]
  const n = codebooks * 2 ** bits * outGroup * group
  return [
    {
      name: `${stem}codes`,
      dtype: bits <= 8 ? 'I8' : 'I16',
      shape: [tall, wide, codebooks],
      data: async () => {
        const all = unpackStream((await q.data()) as Int32Array, bits, tall * wide * codebooks)
        const signed = all.map((v) => (v >= 2 ** (bits - 1) ? v - 2 ** bits : v))
        return bytesOf(bits <= 8 ? Int8Array.from(signed) : Int16Array.from(signed))
      },
    },
    {
      name: `${stem}codebooks`,
      dtype: 'F16',
      shape: [codebooks, 2 ** bits, outGroup, group],
      data: async () => {
        const { buffer, byteOffset } = await books.data()
        return new Uint8Array(buffer, byteOffset, 2 * n)
      },
    },
    {
      name: `${stem}scales`,
      dtype: 'F16',
      shape: [tall, 1, 1, 1],
      data: async () => bytesOf(Uint16Array.from((await scale.data()) as Float32Array, F16.to)),
    },
  ]
}

/** AQLM's: `….codes`, `….codebooks` and `….scales` in place of each weight, as the aqlm package and transformers read them */
export const format: PackedFormat = {
  name: 'aqlm',
  holds: ({ name }) => name === 'aqlm',
  read,
  writer: async (network, names) => {
    const held = (weight: WeightToWrite | undefined): boolean => weight?.codec?.name === 'aqlm'
    const kinds = new Map(
      Object.values(network.weights).flatMap(({ codec }) => {
        const layout = codec?.name === 'aqlm' && layoutOf(codec)
        return layout ? [[JSON.stringify(layout), layout] as const] : []
      }),
    )
    const [layout] = kinds.values()
    if (!layout) throw new Error('no weight of the network is in the format of aqlm; quantize it first')
    if (kinds.size > 1)
      throw new Error(
        `config.json says codebooks, bits and groups once; they differ here: ${[...kinds.keys()].join(' and ')}`,
      )
    // transformers 5 goes by the module, 4 by the weight
    const plain = [...names]
      .filter(({ name }) => name in network.weights && name !== 'embed' && !held(network.weights[name]))
      .flatMap(({ hf }) => [hf.replace(/\.weight$/, ''), hf])
    return {
      tensors: (hf, weight) => (held(weight) ? tensorsOf(hf, weight) : undefined),
      config: {
        quantization_config: {
          quant_method: 'aqlm',
          in_group_size: layout.group,
          out_group_size: layout.outGroup,
          num_codebooks: layout.codebooks,
          nbits_per_codebook: layout.bits,
          linear_weights_not_to_quantize: held(network.weights['head'])
            ? plain
            : [...new Set(['lm_head', 'lm_head.weight', ...plain])],
        },
      },
    }
  },
}
