import type { Codec, Config, Tensor } from '@weftjs/spec'
import { tensor } from '@weftjs/tensor'
import { CheckpointError, type TensorSource } from '@weftjs/tensor/checkpoint'
import { fromParts } from '@weftjs/weight'
import { loadGgufTypes } from '../gguf/blocks/index.ts'
import { codecs } from './codecs.ts'
import type { PackedFormat, Part } from './format.ts'

/** A codec as JSON: its name, and the options that its factory takes. `of` in them describes the codec that it wraps. */
interface Described {
  readonly name: string
  readonly options?: Config
}
interface Stored {
  /** by the name of the weight in the checkpoint: the place of its codec in `codecs` */
  readonly weights: Readonly<Record<string, number>>
  readonly codecs: readonly Described[]
}

const DTYPES = { float32: 'F32', int32: 'I32' } as const

const describe = ({ name, options = {} }: Codec<any>): Described => {
  const { of } = options as { of?: Codec<any> }
  return { name, options: { ...options, ...(of && { of: describe(of) }) } }
}

/** @throws Error for a name that is no codec's, and for options that its factory refuses */
const made = async ({ name, options = {} }: Described): Promise<Codec<any>> => {
  const factory = Object.hasOwn(codecs, name) ? codecs[name] : undefined
  if (!factory) throw new Error(`there is no codec '${name}'; there are ${Object.keys(codecs).join(', ')}`)
  const { of, type } = options as { of?: Described; type?: unknown }
  if (name === 'gguf') await loadGgufTypes([type])
  return factory({ ...options, ...(of && { of: await made(of) }) })
}

const storedIn = ({ quantization_config: found }: Config): Stored | undefined => {
  const stored = found as (Partial<Stored> & { quant_method?: unknown }) | undefined
  return stored?.quant_method === 'weft' && stored.weights && Array.isArray(stored.codecs)
    ? (stored as Stored)
    : undefined
}

/** Any codec's parts as they are, `….weight.q`, and the codecs in config.json: for what no other tool has a layout for. */
export const format: PackedFormat = {
  name: 'weft',
  holds: ({ name }) => name in codecs,
  read: async (checkpoint, hf, shape, config) => {
    const stored = storedIn(config)
    if (!stored || !Object.hasOwn(stored.weights, hf)) return undefined
    const wrong = (found: string): CheckpointError =>
      new CheckpointError(`${found}; write the checkpoint again`, { file: checkpoint.name, tensor: hf })
    const described = stored.codecs[stored.weights[hf]!]
    if (typeof described?.name !== 'string') throw wrong(`config.json names no codec for it`)
    let codec: Codec<any>
    try {
      codec = await made(described)
    } catch (error) {
      throw wrong((error as Error).message)
    }
    // nothing is read before all is known to be of the right kind and size
    const layout = Object.entries(codec.layout!(shape))
    for (const [part, { dtype, shape: wanted }] of layout) {
      const name = `${hf}.${part}`
      if (!checkpoint.has(name)) throw wrong(`has no '${part}' beside it, which ${codec.name} needs`)
      const found = checkpoint.entry(name)
      const fits = found.shape.length === wanted.length && wanted.every((d, i) => d === null || d === found.shape[i])
      if (found.dtype !== DTYPES[dtype] || !fits)
        throw wrong(
          `'${part}' is ${found.dtype} [${found.shape}] where ${codec.name} needs ${DTYPES[dtype]} [${wanted.map((d) => d ?? 'any')}]`,
        )
    }
    const parts: Record<string, Tensor> = {}
    for (const [part, { dtype, shape: wanted }] of layout) {
      const name = `${hf}.${part}`
      const values = dtype === 'float32' ? await checkpoint.floats(name) : await checkpoint.ints(name)
      parts[part] = tensor(
        values,
        wanted.includes(null) ? [...checkpoint.entry(name).shape] : (wanted as number[]),
        dtype,
      )
    }
    return fromParts(codec, parts, shape)
  },
  writer: async (network, names) => {
    const list: Described[] = []
    const place = new Map<string, number>()
    const at = (codec: Codec<any>): number => {
      const described = describe(codec)
      const key = JSON.stringify(described)
      if (!place.has(key)) place.set(key, list.push(described) - 1)
      return place.get(key)!
    }
    const weights: Record<string, number> = {}
    for (const { hf, name } of names) {
      const codec = network.weights[name]?.codec
      if (codec && format.holds(codec)) weights[hf] = at(codec)
    }
    if (!list.length) throw new Error('no weight of the network is packed; quantize it first')
    const config = { quant_method: 'weft', codecs: list, weights }
    const source = (name: string, t: Part): TensorSource => ({
      name,
      dtype: DTYPES[t.dtype as keyof typeof DTYPES],
      shape: t.shape,
      data: async () => {
        const values = await t.data()
        return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
      },
    })
    return {
      tensors: (hf, { parts }) =>
        Object.hasOwn(weights, hf) ? Object.entries(parts).map(([part, t]) => source(`${hf}.${part}`, t)) : undefined,
      config: { quantization_config: config },
    }
  },
}
