import type { Codec, Config, Tensor, Weight } from '@weftjs/spec'
import { tensor1d } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, type TensorSource } from '@weftjs/tensor/checkpoint'
import { fromParts } from '@weftjs/weight'
import { type AwqOptions, awq } from '../awq.ts'
import type { ConstantsDtype } from '../kernels/constants.ts'
import { bytesOf } from '../kernels/loop.ts'
import { fromGemm, fromGemv, onSide, toGemm } from './awq-pack.ts'
import type { Names, PackedFormat, PackedWriter, Part, WeightsToWrite, WeightToWrite } from './format.ts'

type Shape = readonly [number, number]
type Options = Required<AwqOptions>
const DTYPES: readonly string[] = ['F16', 'BF16', 'F32']

/** words in a row of the zeros of a GEMV layer: kernels read them by 8 groups of 128, by 16 of 64, by 32 of 32 */
const gemvWords = (groups: number, group: number): number => {
  const by = group >= 128 ? 1 : group === 64 ? 2 : 4
  return Math.ceil(Math.ceil(groups / 8) / by) * by
}

const numbersIn = (data: Uint8Array, dtype: string): Uint16Array | Float32Array => {
  const { buffer } = data.slice()
  return dtype === 'F32' ? new Float32Array(buffer) : new Uint16Array(buffer)
}
/** a part of numbers: float32, or two of 16 bits to a word */
const partOf = (x: Uint16Array | Float32Array): Tensor => {
  if (x instanceof Float32Array) return tensor1d(x)
  const words = new Int32Array(Math.ceil(x.length / 2))
  new Uint16Array(words.buffer).set(x)
  return tensor1d(words, 'int32')
}

/**
 * A layer of an AWQ checkpoint, `….q_proj.qweight` with its qzeros and scales, in the GEMM layout or in GEMV's; undefined
 * where the tensor is an ordinary one, or the checkpoint is not AWQ's.
 * @throws CheckpointError that names the tensor when its parts are missing, malformed, or not of the shape asked for
 */
export const fromAwq = async (
  checkpoint: Checkpoint,
  hf: string,
  shape: Shape,
  config: Config,
): Promise<Weight | undefined> => {
  const stated = config['quantization_config'] as Config | undefined
  const stem = hf.replace(/\.weight$/, '')
  const at = (key: string): string => `${stem}.${key}`
  if (stated?.['quant_method'] !== 'awq' || !checkpoint.has(at('qweight'))) return undefined
  const wrong = (key: string, found: string, remedy = 'download the checkpoint again'): CheckpointError =>
    new CheckpointError(`${found}; ${remedy}`, { file: checkpoint.name, tensor: at(key) })
  const version = String(stated['version'] ?? 'gemm').toLowerCase()
  const bits = stated['bits'] ?? stated['w_bit'] ?? 4
  const group = stated['group_size'] ?? stated['q_group_size'] ?? 128
  if (version !== 'gemm' && version !== 'gemv')
    throw wrong('qweight', `is in AWQ's version '${version}', and 'gemm' and 'gemv' are known`, 'convert it to gemm')
  if (stated['zero_point'] === false) throw wrong('qweight', 'has no zero points', 'only AWQ with zero points is known')
  for (const key of ['qzeros', 'scales'])
    if (!checkpoint.has(at(key))) throw wrong('qweight', `has no '${key}' beside it`)
  const { dtype } = checkpoint.entry(at('scales'))
  if (!DTYPES.includes(dtype)) throw wrong('scales', `are ${dtype} where F16 is needed`)
  const [out, width] = shape
  let codec: Codec<any>
  let groups: number
  try {
    codec = awq({ bits: bits as 4, group: group as number, dtype: dtype as ConstantsDtype })
    codec.layout!(shape)
    groups = (group as number) > 0 ? width / (group as number) : 1
  } catch (error) {
    throw wrong('qweight', (error as Error).message, 'this checkpoint is not supported')
  }
  const read = async (key: string, kind: string, wanted: Shape): Promise<Uint8Array> => {
    const found = checkpoint.entry(at(key))
    if (found.dtype !== kind || found.shape.join() !== wanted.join())
      throw wrong(key, `is ${found.dtype} [${found.shape}] where ${version} of [${shape}] needs ${kind} [${wanted}]`)
    return (await checkpoint.read(at(key))).data
  }
  const words = async (key: string, wanted: Shape): Promise<Int32Array> =>
    new Int32Array((await read(key, 'I32', wanted)).slice().buffer)
  const codes = (w: Int32Array): Tensor => tensor1d(w, 'int32')
  if (version === 'gemm') {
    if (out % 8) throw wrong('qweight', `${out} outputs are no multiple of 8`)
    const q = codes(fromGemm(await words('qweight', [width, out / 8]), { out, width }))
    const zero = codes(fromGemm(await words('qzeros', [groups, out / 8]), { out, width: groups }))
    const scales = numbersIn(await read('scales', dtype, [groups, out]), dtype)
    return fromParts(codec, { q, scale: partOf(onSide(scales, groups, out)), zero }, shape)
  }
  if (width % 8) throw wrong('qweight', `${width} inputs are no multiple of 8`)
  const padded = gemvWords(groups, width / groups)
  const q = codes(fromGemv(await words('qweight', [out, width / 8]), width / 8, { out, width }))
  const zero = codes(fromGemv(await words('qzeros', [out, padded]), padded, { out, width: groups }))
  const scales = numbersIn(await read('scales', dtype, [out, 8 * padded]), dtype)
  const some = scales.slice(0, out * groups)
  for (let o = 0; o < out; o++) for (let g = 0; g < groups; g++) some[o * groups + g] = scales[o * 8 * padded + g]!
  return fromParts(codec, { q, scale: partOf(some), zero }, shape)
}

const bytesOfWords = async (t: Part): Promise<Uint8Array> => bytesOf((await t.data()) as Int32Array)

/** A packed weight as the tensors of a layer in AWQ's GEMM layout. `hf` is the weight's name: `….q_proj.weight`. */
export const toAwq = (hf: string, { codec, parts, shape: [out, width] }: WeightToWrite): readonly TensorSource[] => {
  if (codec?.name !== 'awq')
    throw new Error(`${hf}: is in format '${codec?.name ?? 'dense'}', not 'awq'; quantize it first`)
  if (out % 8)
    throw new Error(
      `${hf}: AWQ packs 8 outputs to a word, and there are ${out}; leave it out by "skip" when quantizing`,
    )
  const { group, dtype } = codec.options as unknown as Options
  const groups = group > 0 ? width / group : 1
  const stem = hf.replace(/\.weight$/, '')
  const { q, scale, zero } = parts
  const gemm = (name: string, t: Part, rows: number): TensorSource => ({
    ...{ name: `${stem}.${name}`, dtype: 'I32', shape: [rows, out / 8] },
    data: async () => new Uint8Array(toGemm(await bytesOfWords(t), { out, width: rows }).buffer),
  })
  return [
    gemm('qweight', q!, width),
    gemm('qzeros', zero!, groups),
    {
      ...{ name: `${stem}.scales`, dtype, shape: [groups, out] },
      data: async () => {
        const bytes = (await bytesOfWords(scale!)).subarray(0, out * groups * (dtype === 'F32' ? 4 : 2))
        return new Uint8Array(onSide(numbersIn(bytes, dtype), out, groups).buffer)
      },
    },
  ]
}

const writer = async ({ weights }: WeightsToWrite, names: Names): Promise<PackedWriter> => {
  const skip: string[] = []
  const sizes = new Set<number>()
  for (const { hf, name, layout } of names as Iterable<{ hf: string; name: string; layout?: string }>) {
    const weight = weights[name]
    if (!weight || name === 'embed') continue
    if (weight.codec?.name !== 'awq') {
      skip.push(hf.replace(/\.weight$/, ''))
      continue
    }
    if (layout) throw new Error(`${hf}: AWQ has no place for a matrix that its checkpoint keeps ${layout}`)
    toAwq(hf, weight) // says what has no place
    sizes.add((weight.codec.options as unknown as Options).group)
  }
  if (!sizes.size) throw new Error("no weight of the network is in format 'awq'; quantize it first")
  if (sizes.size > 1)
    throw new Error(
      `an AWQ checkpoint has one group size, and there are ${[...sizes].join(' and ')}; quantize with one`,
    )
  return {
    tensors: (hf, weight) => (weight.codec?.name === 'awq' ? toAwq(hf, weight) : undefined),
    config: {
      quantization_config: {
        quant_method: 'awq',
        bits: 4,
        group_size: [...sizes][0],
        zero_point: true,
        version: 'gemm',
        modules_to_not_convert: skip.length ? [...new Set(['lm_head', ...skip])] : null,
      },
    },
  }
}

/** AutoAWQ's layouts: GEMM read and written, GEMV read */
export const format: PackedFormat = { name: 'awq', holds: ({ name }) => name === 'awq', read: fromAwq, writer }
