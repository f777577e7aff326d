import type { TransformerConfig } from '@weftjs/model'
import { bitsPerWeight, codecs } from '@weftjs/quant'
import type { Codec, Network } from '@weftjs/spec'
import { bytesOf } from '@weftjs/tensor'
import type { Base } from '../protocol.ts'

/** as it was loaded */
export const WHOLE = 'float32'

interface Format {
  readonly title: string
  readonly make: (options?: object) => Codec<any>
}
const TITLES: Readonly<Record<string, string>> = {
  ...{ bf16: 'bfloat16', f16: '16-bit floats', fp8: '8-bit floats', int8: '8 bits, a scale for each row' },
  ...{ nf4: 'NF4 (QLoRA)', fp4: '4-bit floats', int4: '4 bits', int3: '3 bits', int2: '2 bits' },
  ...{ hqq: '4 bits, half-quadratic', ternary: '−1, 0 and 1', binary: '−1 and 1' },
}
/** what packs no matrices, or what others here do: `awq` without data rounds as `int4` does */
const LEFT_OUT: ReadonlySet<string> = new Set(['affine', 'awq', 'compeft', 'dynamic8', 'gguf', 'outliers', 'state4'])
const GGUF = ['Q8_0', 'Q6_K', 'Q5_K', 'Q5_0', 'Q4_K', 'Q4_0', 'IQ4_NL', 'Q3_K', 'Q2_K'] as const

/** every format that looks at no data, by name; whether it takes a matrix depends on the sides */
const formats: Readonly<Record<string, Format>> = {
  ...Object.fromEntries(
    Object.entries(codecs)
      .filter(([name, make]) => !LEFT_OUT.has(name) && !make().calibrates?.length)
      .map(([name, make]): [string, Format] => [name, { title: TITLES[name] ?? name, make }]),
  ),
  'nf4-dq': { title: 'NF4, 8-bit scales', make: (o) => codecs['nf4']!({ ...o, double: true }) },
  ...Object.fromEntries(
    GGUF.map((type): [string, Format] => [
      `gguf-${type}`,
      { title: `GGUF ${type}`, make: () => codecs['gguf']!({ type }) },
    ]),
  ),
}

const blocksOf = ({ weights }: Network<TransformerConfig>): [string, Network['weights'][string]][] =>
  Object.entries(weights).filter(([name]) => name.startsWith('blocks.'))

/** bits of all matrices in a format, or nothing where one of them does not fit it */
const sizeIn = (codec: Codec<any>, shapes: readonly (readonly [number, number])[]): number | undefined => {
  let bits = 0
  try {
    for (const shape of shapes) {
      const each = bitsPerWeight(codec, shape)
      if (each === undefined) return undefined
      bits += each * shape[0] * shape[1]
    }
  } catch {
    return undefined
  }
  return bits
}

/** a format for all matrices of the blocks: in groups as it has them, else in smaller ones that divide the sides */
const fitting = ({ make }: Format, shapes: readonly (readonly [number, number])[]) => {
  for (const options of [{}, { group: 32 }]) {
    try {
      const codec = make(options)
      const bits = sizeIn(codec, shapes)
      if (bits !== undefined) return { codec, bits }
    } catch {
      // it has no groups
    }
  }
  return undefined
}

/** What the frozen matrices of a model can be kept in, from many bits to few, with what the whole model then takes. */
export const basesOf = (network: Network<TransformerConfig>, bytes: number): readonly Base[] => {
  const blocks = blocksOf(network)
  const weights = blocks.reduce((n, [, { shape }]) => n + shape[0] * shape[1], 0)
  const held = blocks.reduce((n, [, w]) => n + bytesOf(w.parts), 0)
  const bits = (8 * held) / weights
  const packed = blocks.some(([, w]) => w.codec)
  const whole = { name: WHOLE, title: packed ? 'as the file has them' : '32-bit floats', bits, bytes }
  if (packed) return [whole]
  const shapes = blocks.map(([, w]) => w.shape)
  const found = Object.entries(formats).flatMap(([name, format]): Base[] => {
    const fit = fitting(format, shapes)
    return fit
      ? [{ name, title: format.title, bits: fit.bits / weights, bytes: Math.round(bytes - held + fit.bits / 8) }]
      : []
  })
  return [whole, ...found.sort((a, b) => b.bits - a.bits || a.title.localeCompare(b.title))]
}

/** @throws Error for a format that there is not, or that does not fit this model */
export const codecFor = (name: string, network: Network<TransformerConfig>): Codec<any> => {
  const format = Object.hasOwn(formats, name) ? formats[name] : undefined
  const fit =
    format &&
    fitting(
      format,
      blocksOf(network).map(([, w]) => w.shape),
    )
  if (!fit) throw new Error(`The frozen weights of this model cannot be kept as '${name}': choose another format.`)
  return fit.codec
}
