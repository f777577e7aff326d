import { isRecord, type Kind, parseValue, show, type Value } from './value.ts'

export type Values = Readonly<Record<string, Value>>
export interface Source {
  /** as the recipe names it: a folder, `org/name`, `org/name@revision` */
  readonly model: string
  readonly parameters: Values
  /** layers [from, to) of the model */
  readonly layers?: readonly [from: number, to: number]
  /** path in the recipe, for messages */
  readonly path: string
}
export interface Slice {
  readonly sources: readonly Source[]
  readonly parameters: Values
}
export type RecipeDtype = 'F32' | 'F16' | 'BF16'

/** A mergekit YAML file, parsed and checked. */
export interface Recipe {
  readonly method: string
  readonly base?: string
  /** one slice without layers where the recipe lists `models` */
  readonly slices: readonly Slice[]
  readonly parameters: Values
  readonly dtype?: RecipeDtype
  /** the model whose tokenizer the result has */
  readonly tokenizer?: string
}

/** Which parameters a method takes. */
export type Parameters = Readonly<Record<string, Kind>>

const DTYPES: Readonly<Record<string, RecipeDtype>> = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' }
const TOP = ['merge_method', 'base_model', 'models', 'slices', 'parameters', 'dtype', 'out_dtype', 'tokenizer_source']
/** changes how mergekit computes, and nothing of the result */
const WITHOUT_EFFECT = new Set(['int8_mask'])

const under = (path: string, key: string | number): string => (path ? `${path}.${key}` : String(key))

const record = (value: unknown, path: string, known: readonly string[]): Record<string, unknown> => {
  if (!isRecord(value)) throw new Error(`${path || 'the recipe'}: must be a map, found ${show(value)}`)
  for (const key of Object.keys(value))
    if (!known.includes(key)) throw new Error(`${under(path, key)}: is not known here; known are ${known.join(', ')}`)
  return value
}
const text = (value: unknown, path: string): string => {
  if (typeof value !== 'string' || !value) throw new Error(`${path}: must be a string, found ${show(value)}`)
  return value
}
const list = (value: unknown, path: string): unknown[] => {
  if (!Array.isArray(value) || !value.length)
    throw new Error(`${path}: must be a list of at least one, found ${show(value)}`)
  return value
}

const parameters = (value: unknown, path: string, known: Parameters): Values => {
  if (value === undefined || value === null) return {}
  const given = record(value, path, [...Object.keys(known), ...WITHOUT_EFFECT])
  return Object.fromEntries(
    Object.entries(given)
      .filter(([key]) => !WITHOUT_EFFECT.has(key))
      .map(([key, v]) => [key, parseValue(v, under(path, key), known[key]!)]),
  )
}

const range = (value: unknown, path: string): [number, number] => {
  const [from, to] = Array.isArray(value) && value.length === 2 ? value : []
  if (!Number.isInteger(from) || !Number.isInteger(to) || from < 0 || to <= from)
    throw new Error(`${path}: must be [first, end] with 0 ≤ first < end, found ${show(value)}`)
  return [from, to]
}

/**
 * Checks a recipe as YAML gives it. `methods` says which merge methods there are, and which parameters each takes.
 * @throws Error that starts with the path of the field: `models.1.parameters.weight: must be a number…`
 */
export const parseRecipe = (config: unknown, methods: Readonly<Record<string, Parameters>>): Recipe => {
  const top = record(config, '', TOP)
  const method = text(top['merge_method'], 'merge_method')
  const known = Object.hasOwn(methods, method) ? methods[method] : undefined
  if (!known)
    throw new Error(`merge_method: ${show(method)} is not supported; there are ${Object.keys(methods).join(', ')}`)
  const { base_model, models, slices, dtype, out_dtype, tokenizer_source } = top
  const base = base_model === undefined || base_model === null ? undefined : text(base_model, 'base_model')
  if ((models === undefined) === (slices === undefined))
    throw new Error(`a recipe has either models or slices, found ${models === undefined ? 'neither' : 'both'}`)
  const source = (value: unknown, path: string, sliced: boolean): Source => {
    const given = record(value, path, ['model', 'parameters', ...(sliced ? ['layer_range'] : [])])
    return {
      model: text(given['model'], `${path}.model`),
      parameters: parameters(given['parameters'], `${path}.parameters`, known),
      ...(sliced && { layers: range(given['layer_range'], `${path}.layer_range`) }),
      path,
    }
  }
  const wanted = out_dtype ?? dtype
  for (const [k, v] of Object.entries({ dtype, out_dtype }))
    if (v !== undefined && v !== null && !Object.hasOwn(DTYPES, text(v, k)))
      throw new Error(`${k}: must be ${Object.keys(DTYPES).join(', ')}, found ${show(v)}`)
  const found: Slice[] =
    models !== undefined
      ? [{ sources: list(models, 'models').map((m, i) => source(m, `models.${i}`, false)), parameters: {} }]
      : list(slices, 'slices').map((s, i) => {
          const path = `slices.${i}`
          const given = record(s, path, ['sources', 'parameters'])
          const sources = list(given['sources'], `${path}.sources`).map((m, j) =>
            source(m, `${path}.sources.${j}`, true),
          )
          const length = ({ layers }: Source): number => layers![1] - layers![0]
          const odd = sources.find((m) => length(m) !== length(sources[0]!))
          if (odd)
            throw new Error(
              `${odd.path}.layer_range: has ${length(odd)} layers, the first source ${length(sources[0]!)}`,
            )
          return { sources, parameters: parameters(given['parameters'], `${path}.parameters`, known) }
        })
  const all = [...new Set([...(base ? [base] : []), ...found.flatMap((s) => s.sources.map((m) => m.model))])]
  return {
    method,
    ...(base && { base }),
    slices: found,
    parameters: parameters(top['parameters'], 'parameters', known),
    ...(typeof wanted === 'string' && { dtype: DTYPES[wanted]! }),
    ...tokenizerOf(tokenizer_source, base, all),
  }
}

const tokenizerOf = (value: unknown, base: string | undefined, models: readonly string[]): { tokenizer?: string } => {
  if (value === undefined || value === null) return {}
  const named = text(value, 'tokenizer_source')
  const tokenizer = named === 'base' ? base : named
  if (tokenizer === undefined || !models.includes(tokenizer))
    throw new Error(
      `tokenizer_source: must be base or one of ${models.join(', ')}, found ${show(value)}; joining vocabularies is not supported`,
    )
  return { tokenizer }
}
