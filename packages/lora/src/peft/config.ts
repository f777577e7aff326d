import type { Folder } from '@weftjs/tensor/checkpoint'
import { patterned, pythonRegExp } from '../shared/pattern.ts'
import { replicationOf } from './base.ts'
import type { PeftFormat } from './format.ts'
import { formats as known } from './formats/index.ts'
import { adapterNames } from './named.ts'
import { PEFT_CONFIG } from './names.ts'
import { type Make, native, nativeMethod } from './native.ts'

/** PEFT's adapter_config.json under the names of the file: what all types share; the rest is the type's. */
export interface PeftConfig extends Readonly<Record<string, unknown>> {
  readonly peft_type: string
  /** ends of module names, or a regular expression of Python on the whole name, or 'all-linear' */
  readonly target_modules: string | readonly string[]
  readonly exclude_modules?: string | readonly string[] | null
  readonly layers_to_transform?: number | readonly number[] | null
  readonly layers_pattern?: string | readonly string[] | null
  readonly modules_to_save?: readonly string[] | null
  /** `none`, `all`, or what ends in `_only`: those of the adapted modules */
  readonly bias?: string
  readonly fan_in_fan_out?: boolean
  readonly task_type?: string | null
  readonly base_model_name_or_path?: string | null
  readonly inference_mode?: boolean
}

export interface Formats {
  /** PEFT's types that are read and written; all that we have by default */
  readonly formats?: readonly PeftFormat[]
  /** makes the adapters of methods that PEFT does not have */
  readonly make?: Make
}

const show = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
const isText = (v: unknown): v is string => typeof v === 'string'
const isWhole = (least: number) => (v: unknown) => Number.isInteger(v) && (v as number) >= least
const isEmpty = (v: unknown): boolean =>
  v === undefined || v === null || (Array.isArray(v) && v.length === 0) || (isRecord(v) && Object.keys(v).length === 0)
const isRecord = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v)

/** a list of what is known, for a message */
const types = (formats: readonly PeftFormat[]): string =>
  [...new Set(formats.map((f) => `"${f.type}"`))].sort().join(', ')

/** The format of a config. @throws Error for a type that we do not read */
export const formatOf = (
  config: Readonly<Record<string, unknown>>,
  { formats = known, make }: Formats = {},
): PeftFormat => {
  const method = nativeMethod(config)
  if (method !== undefined) return native(method, make)
  const same = formats.filter((f) => f.type === config['peft_type'])
  const found = same.find((f) => f.when?.(config)) ?? same.find((f) => !f.when)
  if (found) return found
  throw new Error(
    `${PEFT_CONFIG}: peft_type ${show(config['peft_type'])} is not supported; supported are ${types(formats)}. Fold the adapter with PEFT (merge_and_unload) and load the merged model`,
  )
}

/**
 * Checks a parsed adapter_config.json.
 * @throws Error that names the field and says what was found, and what is supported where something is not
 */
export const peftConfig = (value: unknown, options: Formats = {}): PeftConfig => {
  if (!isRecord(value)) throw new Error(`${PEFT_CONFIG}: must be an object, found ${show(value)}`)
  const must = (path: string, found: unknown, test: (v: unknown) => unknown, wanted: string): void => {
    if (!test(found)) throw new Error(`${PEFT_CONFIG}: ${path} must be ${wanted}, found ${show(found)}`)
  }
  const maybe = (key: string, test: (v: unknown) => unknown, wanted: string): void => {
    if (value[key] !== undefined && value[key] !== null) must(key, value[key], test, wanted)
  }
  const texts = (key: string, orOne: boolean): void => {
    const found = value[key]
    if (found === undefined || found === null || (orOne && isText(found))) return
    must(key, found, Array.isArray, orOne ? 'a string or a list of strings' : 'a list of strings')
    for (const [i, item] of (found as unknown[]).entries()) must(`${key}[${i}]`, item, isText, 'a string')
  }

  const format = formatOf(value, options)
  for (const [key, fine] of Object.entries(format.inert ?? {}))
    if (!isEmpty(value[key]) && !fine.includes(value[key]))
      throw new Error(
        `${PEFT_CONFIG}: ${key} is ${show(value[key])}, which is not supported with peft_type ${show(format.type)}${fine.length ? ` (only ${fine.map(show).join(', ')})` : ''}. Fold the adapter with PEFT (merge_and_unload) and load the merged model`,
      )
  for (const { key, test, wanted, fallback, pattern } of Object.values(format.fields)) {
    const found = value[key] ?? fallback ?? value[key]
    if (found !== fallback || fallback === undefined) must(key, found, test, wanted)
    if (!pattern) continue
    maybe(pattern, isRecord, 'an object of patterns')
    const patterns = (value[pattern] ?? {}) as Record<string, unknown>
    for (const [p, v] of Object.entries(patterns)) must(`${pattern}[${JSON.stringify(p)}]`, v, test, wanted)
    patterned(patterns, `${PEFT_CONFIG}: ${pattern}`)
  }
  if (!format.targets)
    must(
      'target_modules',
      value['target_modules'],
      (v) => isText(v) || Array.isArray(v),
      'a list of module names or a regular expression',
    )
  texts('target_modules', true)
  texts('exclude_modules', true)
  texts('layers_pattern', true)
  texts('modules_to_save', false)
  for (const key of ['target_modules', 'exclude_modules'])
    if (isText(value[key])) pythonRegExp(value[key], (s) => s, `${PEFT_CONFIG}: ${key}`)
  replicationOf(value)
  const layers = value['layers_to_transform']
  for (const [i, layer] of (Array.isArray(layers) ? layers : []).entries())
    must(`layers_to_transform[${i}]`, layer, isWhole(0), 'the number of a layer')
  if (!Array.isArray(layers)) maybe('layers_to_transform', isWhole(0), 'the number of a layer or a list of them')
  const only = `${format.type.toLowerCase()}_only`
  maybe('bias', (v) => ['none', 'all', only].includes(v as string), `"none", "all" or "${only}"`)
  for (const key of ['fan_in_fan_out', 'inference_mode']) maybe(key, (v) => typeof v === 'boolean', 'true or false')
  for (const key of ['task_type', 'base_model_name_or_path']) maybe(key, isText, 'a string')
  format.check?.(value as PeftConfig)
  return value as PeftConfig
}

/** The adapter_config.json of a folder. @throws Error, naming the field that is wrong */
export const readPeftConfig = async (folder: Folder, options: Formats = {}): Promise<PeftConfig> => {
  if (!(await folder.has(PEFT_CONFIG)) && folder.list) {
    const names = await adapterNames(folder)
    if (names.length)
      throw new Error(
        `${folder.name}: has no ${PEFT_CONFIG} itself, but adapters by name: ${names.join(', ')}; open one with namedAdapter(folder, ${show(names[0])})`,
      )
  }
  const text = await folder.text(PEFT_CONFIG)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new Error(`${folder.name}/${PEFT_CONFIG}: not valid JSON (${(error as Error).message}); download it again`)
  }
  try {
    const config = peftConfig(value, options)
    const { folders } = formatOf(config, options)
    if (!folders) return config
    return { ...config, ...(await folders.read(config, folder, (f, formats) => readPeftConfig(f, { formats }))) }
  } catch (error) {
    throw new Error(`${folder.name}/${(error as Error).message}`)
  }
}
