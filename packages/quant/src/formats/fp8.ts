import type { Codec, Config } from '@weftjs/spec'
import { tensor, tensor1d } from '@weftjs/tensor'
import { CheckpointError, decodeFloats, type TensorSource } from '@weftjs/tensor/checkpoint'
import { fromParts } from '@weftjs/weight'
import { type Fp8Options, fp8 } from '../fp8.ts'
import type { PackedFormat, Part, WeightToWrite } from './format.ts'

const KINDS: Readonly<Record<string, 'e4m3' | 'e5m2'>> = { F8_E4M3: 'e4m3', F8_E5M2: 'e5m2' }
/** DeepSeek's and transformers' name, by tiles; that of compressed-tensors and FBGEMM, by matrix or row. W is the code times it in all */
const SCALES = ['weight_scale_inv', 'weight_scale'] as const

const pair = (found: unknown): [number, number] | undefined =>
  Array.isArray(found) && found.length === 2 && found.every((n) => Number.isInteger(n) && n > 0)
    ? (found as [number, number])
    : undefined
/** rows and columns that share a scale, as config.json has it */
const tileIn = ({ quantization_config: found }: Config): [number, number] | undefined => {
  const { weight_block_size: size, config_groups: groups } = (found ?? {}) as Config
  const structures = Object.values((groups ?? {}) as object).map((g) => pair(g?.weights?.block_structure))
  return pair(size) ?? structures.find((s) => s)
}

/** the first code that is no number */
const odd = (kind: 'e4m3' | 'e5m2', bytes: Uint8Array): number =>
  bytes.findIndex((b) => (kind === 'e4m3' ? (b & 0x7f) === 0x7f : (b & 0x7f) >= 0x7c))

const read: PackedFormat['read'] = async (checkpoint, hf, shape, config) => {
  const kind = checkpoint.has(hf) ? KINDS[checkpoint.entry(hf).dtype] : undefined
  const stem = hf.replace(/\.weight$/, '')
  const at = SCALES.map((s) => `${stem}.${s}`).find((s) => checkpoint.has(s))
  if (!kind || !at) return undefined
  const wrong = (name: string, found: string): CheckpointError =>
    new CheckpointError(found, { file: checkpoint.name, tensor: name })
  const [out, width] = shape
  const stored = checkpoint.entry(hf).shape
  if (stored.join() !== shape.join()) throw wrong(hf, `is [${stored}] where [${shape}] is needed`)
  const { shape: sizes, dtype } = checkpoint.entry(at)
  const n = sizes.reduce((a, b) => a * b, 1)
  const tile = tileIn(config)
  const tiles = tile && [Math.ceil(out / tile[0]), Math.ceil(width / tile[1])]
  const flat = sizes.join() === `${out},1` || sizes.join() === `${out}`
  let options: Fp8Options
  if (n === 1) options = { per: 'tensor' }
  else if (tile && sizes.join() === tiles!.join()) options = { per: 'block', tile }
  else if (flat) options = { per: 'row' }
  else
    throw wrong(
      at,
      `is [${sizes}] where [1], [${out}, 1]${tile ? ` or [${tiles}], tiles of [${tile}],` : ' (config.json gives no weight_block_size)'} is needed; download the checkpoint again`,
    )
  const scale = decodeFloats(dtype, (await checkpoint.read(at)).data, { file: checkpoint.name, tensor: at })
  const infinite = scale.findIndex((s) => !Number.isFinite(s))
  if (infinite >= 0) throw wrong(at, `scale ${infinite} is ${scale[infinite]}; download the checkpoint again`)
  const { data } = await checkpoint.read(hf)
  const none = odd(kind, data)
  if (none >= 0)
    throw wrong(
      hf,
      `element [${Math.floor(none / width)}, ${none % width}] is no finite number; download the checkpoint again`,
    )
  const words = new Int32Array(Math.ceil(data.length / 4))
  new Uint8Array(words.buffer).set(data)
  const codec = fp8({ format: kind, ...options }) as Codec
  const parts = { q: tensor1d(words, 'int32'), scale: tensor(scale, codec.layout!(shape)['scale']!.shape as number[]) }
  return fromParts(codec, parts, shape)
}

/** bytes of a tensor, the first n, read when its turn comes */
const bytes =
  (t: Part, n: number): (() => Promise<Uint8Array>) =>
  async () => {
    const values = await t.data()
    return new Uint8Array(values.buffer, values.byteOffset, n)
  }

const optionsOf = ({ options = {} }: Codec<any>): Required<Fp8Options> => ({
  ...{ format: 'e4m3', per: 'row', tile: [128, 128] },
  ...(options as Fp8Options),
})

const configOf = ({ per, tile }: Required<Fp8Options>, skip: readonly string[]): Config => {
  if (per === 'block')
    return {
      quant_method: 'fp8',
      fmt: 'e4m3',
      activation_scheme: 'dynamic',
      weight_block_size: tile,
      modules_to_not_convert: skip,
    }
  const weights = {
    ...{ num_bits: 8, type: 'float', symmetric: true, dynamic: false },
    strategy: per === 'row' ? 'channel' : 'tensor',
  }
  return {
    quant_method: 'compressed-tensors',
    format: 'float-quantized',
    quantization_status: 'compressed',
    // weights alone are in 8 bits
    config_groups: { group_0: { targets: ['Linear'], weights, input_activations: null, output_activations: null } },
    ignore: skip,
  }
}

/**
 * 8-bit floats as checkpoints have them: tiles as DeepSeek and transformers do (`weight_scale_inv`), rows and whole
 * matrices as compressed-tensors does (`weight_scale`). e4m3 alone is written, which is what their readers know.
 */
export const format: PackedFormat = {
  name: 'fp8',
  holds: (codec) => codec.name === 'fp8' && optionsOf(codec).format === 'e4m3',
  read,
  writer: async ({ weights }, names) => {
    const ours = (w: WeightToWrite | undefined): boolean => Boolean(w?.codec && format.holds(w.codec))
    const first = Object.values(weights).find(ours)?.codec
    if (!first) throw new Error("no weight of the network is in e4m3; quantize it to fp8({ format: 'e4m3' })")
    const options = optionsOf(first)
    const text = JSON.stringify(options)
    const other = Object.values(weights).find((w) => ours(w) && JSON.stringify(optionsOf(w.codec!)) !== text)
    if (other)
      throw new Error(
        `one fp8 checkpoint cannot hold both ${text} and ${JSON.stringify(optionsOf(other.codec!))}; quantize with one codec`,
      )
    const skip = [...names]
      .filter(({ name }) => name in weights && name !== 'embed' && !ours(weights[name]))
      .map(({ hf }) => hf.replace(/\.weight$/, ''))
    const config = { quantization_config: configOf(options, [...new Set(['lm_head', ...skip])]) }
    const tensors = (hf: string, weight: WeightToWrite): readonly TensorSource[] | undefined => {
      if (!ours(weight)) return undefined
      const { parts, shape } = weight
      const { q, scale } = parts as { q: Part; scale: Part }
      const name = `${hf.replace(/\.weight$/, '')}.${options.per === 'block' ? 'weight_scale_inv' : 'weight_scale'}`
      return [
        { name: hf, dtype: 'F8_E4M3', shape, data: bytes(q, shape[0] * shape[1]) },
        {
          name,
          dtype: 'F32',
          shape: options.per === 'tensor' ? [1] : scale.shape,
          data: bytes(scale, 4 * scale.size),
        },
      ]
    }
    return { tensors, config }
  },
}
