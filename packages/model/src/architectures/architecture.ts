import type { Config } from '@weftjs/spec'
import type { Activation } from '@weftjs/tensor'
import type { Dtype } from '@weftjs/tensor/checkpoint'
import type { TransformerConfig } from '../config.ts'

/** One tensor of a checkpoint and where it lives here. */
export interface Name {
  /** its name in a Hugging Face file; `{i}` stands for the layer, `{e}` for the expert */
  readonly hf: string
  /** ours: a site for a matrix, a vector's name otherwise */
  readonly name: string
  /**
   * how the file keeps it, where that differs: `transposed` is [in, out] (GPT-2's Conv1D), `patches` a convolution
   * [out, channels, k, k] for our [out, channels·k·k], `batched` has leading axes of 1 up to rank 3 (ViT's tokens)
   */
  readonly layout?: 'transposed' | 'patches' | 'batched'
  /** layers that have it; all by default */
  readonly layers?: readonly boolean[]
  /** a file may keep the matrices of all experts in one tensor [E, parts·out, in], this one as part `part` */
  readonly fused?: {
    readonly hf: string
    readonly part: number
    readonly parts: number
    /** the file that it was read from does */
    readonly stored?: boolean
  }
  /** its name in a file whose experts are fused, where that differs */
  readonly beside?: string
  /** may be missing from the file */
  readonly optional?: boolean
  /** of the file it was read from, the widest of all layers */
  readonly dtype?: Dtype
}

/** How a family of checkpoints is read and written: data, and one function from its config to ours. */
export interface Architecture {
  /** values of `model_type` */
  readonly types: readonly string[]
  /** @throws Error that names the field of config.json which is wrong or not supported */
  config(source: Config): TransformerConfig
  /** other spellings of its tensors' names, each a piece and what stands in its place: `['model.', '']` */
  readonly aliases?: readonly (readonly [piece: string, instead: string])[]
}

const TOO_LARGE = 2 ** 31 - 1
const MOST_LAYERS = 10_000

export interface Reader {
  number(key: string, fallback?: number): number
  maybe(key: string): number | undefined
  /** a whole number of at least 1 */
  count(key: string, fallback?: number, most?: number): number
  layers(key: string): number
  text(key: string, fallback?: string): string
  flag(key: string, fallback: boolean): boolean
  record(key: string): Config | undefined
  list(key: string): readonly string[] | undefined
  activation(key: string, fallback?: string): Activation
  /** @throws Error when the field has any value but this one */
  only(key: string, value: unknown): void
}

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  relu: 'relu',
  tanh: 'tanh',
}

const show = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}

/** reads config.json fields, each with an error that names it; a null is as good as no field */
export const reader = (source: Config): Reader => {
  const wrong = (key: string, wanted: string): Error =>
    new Error(`config.json: ${key} must be ${wanted}, found ${show(source[key])}`)
  const number: Reader['number'] = (key, fallback) => {
    const value = source[key] ?? fallback
    if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong(key, 'a number')
    return value
  }
  const count: Reader['count'] = (key, fallback, most = TOO_LARGE) => {
    const value = source[key] ?? fallback
    if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > most)
      throw wrong(key, `a whole number from 1 to ${most}`)
    return value as number
  }
  const text: Reader['text'] = (key, fallback) => {
    const value = source[key] ?? fallback
    if (typeof value !== 'string') throw wrong(key, 'a string')
    return value
  }
  return {
    number,
    count,
    text,
    maybe: (key) => (source[key] === undefined || source[key] === null ? undefined : number(key)),
    layers: (key) => count(key, undefined, MOST_LAYERS),
    flag: (key, fallback) => {
      const value = source[key] ?? fallback
      if (typeof value !== 'boolean') throw wrong(key, 'true or false')
      return value
    },
    record: (key) => {
      const value = source[key]
      if (value === undefined || value === null) return undefined
      if (typeof value !== 'object' || Array.isArray(value)) throw wrong(key, 'an object')
      return value as Config
    },
    list: (key) => {
      const value = source[key]
      if (value === undefined || value === null) return undefined
      if (!Array.isArray(value) || value.some((v) => typeof v !== 'string')) throw wrong(key, 'a list of strings')
      return value
    },
    activation: (key, fallback) => {
      const found = Object.hasOwn(ACTIVATIONS, text(key, fallback)) ? ACTIVATIONS[text(key, fallback)] : undefined
      if (!found) throw wrong(key, `one of ${Object.keys(ACTIVATIONS).join(', ')}`)
      return found
    },
    only: (key, value) => {
      if ((source[key] ?? value) !== value) throw wrong(key, `${show(value)}: nothing else is supported`)
    },
  }
}

/** what a checkpoint ends in, by the end of its class's name in `architectures`; the first row where there is none */
export const outputOf = <T extends string>(source: Config, ends: Readonly<Record<string, T>>): T => {
  const named = reader(source).list('architectures')?.[0]
  if (named === undefined) return Object.values(ends)[0]!
  const end = Object.keys(ends).find((e) => named.endsWith(e))
  if (end) return ends[end]!
  throw new Error(
    `config.json: architectures names ${show(named)}, which is not supported; supported are classes that end in ${Object.keys(ends).join(', ')}`,
  )
}

/** classes of a classifier: `num_labels`, or as many as `id2label` names, or 2 */
export const classesOf = (source: Config): number => {
  const r = reader(source)
  return r.count('num_labels', Object.keys(r.record('id2label') ?? { 0: '', 1: '' }).length)
}

/** a weight and its bias under one name, or two */
export const biased = (hf: string, name: string, layout?: Name['layout']): Name[] => [
  { hf: `${hf}.weight`, name, ...(layout && { layout }) },
  { hf: `${hf}.bias`, name: `${name}.bias` },
]

/** A name written out: `row` of the config's list, and which expert's. */
export type NameAt = Name & { readonly row: number; readonly expert?: number }

/** the name in one layer: once, or once for each expert */
const inLayer = (n: NameAt, i: number, experts: number): NameAt[] => {
  const put = (s: string, e: number): string => s.replace('{i}', String(i)).replace('{e}', String(e))
  const each = n.name.includes('{e}')
  return Array.from({ length: each ? experts : 1 }, (_, e) => ({
    ...n,
    ...{ hf: put(n.hf, e), name: put(n.name, e) },
    ...(each && { expert: e }),
    ...(n.fused && { fused: { ...n.fused, hf: put(n.fused.hf, e) } }),
    ...(n.beside !== undefined && { beside: put(n.beside, e) }),
  }))
}

/** `{i}` and `{e}` written out, a layer at a time, so that a caller can stop where a checkpoint does */
export function* namesOf(c: TransformerConfig): Generator<NameAt> {
  // the tied head is the embedding: no tensor of its own
  const wanted = c.names.map((n, row) => ({ ...n, row })).filter((n) => !(c.tied && n.name === 'head'))
  const inLayers = wanted.filter((n) => n.name.includes('{i}'))
  const first = wanted.findIndex((n) => n.name.includes('{i}'))
  yield* wanted.slice(0, first).filter((n) => !inLayers.includes(n))
  for (let i = 0; i < c.layers; i++)
    for (const n of inLayers) if (n.layers?.[i] ?? true) yield* inLayer(n, i, c.experts?.count ?? 0)
  yield* wanted.slice(first).filter((n) => !inLayers.includes(n))
}
