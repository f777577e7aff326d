import type { Folder } from '@weftjs/tensor/checkpoint'
import { patterned, pythonRegExp } from './pattern.ts'

/** PEFT's adapter_config.json of a LoRA adapter, under the names of the file; other fields are carried along. */
export interface PeftConfig {
  readonly peft_type: 'LORA'
  readonly r: number
  readonly lora_alpha: number
  /** ends of module names, or a regular expression of Python on the whole name, or 'all-linear' */
  readonly target_modules: string | readonly string[]
  readonly exclude_modules?: string | readonly string[] | null
  readonly layers_to_transform?: number | readonly number[] | null
  readonly layers_pattern?: string | readonly string[] | null
  readonly rank_pattern?: Readonly<Record<string, number>> | null
  readonly alpha_pattern?: Readonly<Record<string, number>> | null
  readonly modules_to_save?: readonly string[] | null
  readonly bias?: 'none' | 'all' | 'lora_only'
  readonly lora_dropout?: number
  readonly use_rslora?: boolean
  readonly lora_bias?: boolean
  readonly fan_in_fan_out?: boolean
  readonly init_lora_weights?: boolean | string | null
  readonly task_type?: string | null
  readonly base_model_name_or_path?: string | null
  readonly inference_mode?: boolean
}

/** fields that change what the tensors mean, and the values under which they do not */
const INERT: Readonly<Record<string, readonly unknown[]>> = {
  use_dora: [false],
  use_qalora: [false],
  ensure_weight_tying: [false],
  use_bdlora: [false],
  megatron_config: [],
  trainable_token_indices: [],
  target_parameters: [],
  layer_replication: [],
  alora_invocation_tokens: [],
  arrow_config: [],
  kasa_config: [],
  velora_config: [],
  monteclora_config: [],
}
/** starts that leave the base as it is: the tensors of the file are the whole adapter */
const INITS: readonly unknown[] = [undefined, null, true, false, 'gaussian', 'eva']

const FILE = 'adapter_config.json'
const show = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
const isText = (v: unknown): v is string => typeof v === 'string'
const isWhole = (least: number) => (v: unknown) => Number.isInteger(v) && (v as number) >= least
const isNumber = (v: unknown): boolean => typeof v === 'number' && Number.isFinite(v)
const isEmpty = (v: unknown): boolean =>
  v === undefined || v === null || (Array.isArray(v) && v.length === 0) || (isRecord(v) && Object.keys(v).length === 0)
const isRecord = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v)

/**
 * Checks a parsed adapter_config.json.
 * @throws Error that names the field and says what was found, and what is supported where something is not
 */
export const peftConfig = (value: unknown): PeftConfig => {
  if (!isRecord(value)) throw new Error(`${FILE}: must be an object, found ${show(value)}`)
  const fail = (path: string, wanted: string, found: unknown): never => {
    throw new Error(`${FILE}: ${path} must be ${wanted}, found ${show(found)}`)
  }
  const must = (path: string, found: unknown, test: (v: unknown) => unknown, wanted: string): void => {
    if (!test(found)) fail(path, wanted, found)
  }
  const maybe = (key: string, test: (v: unknown) => unknown, wanted: string): void => {
    if (value[key] !== undefined && value[key] !== null) must(key, value[key], test, wanted)
  }
  const texts = (key: string, orOne: boolean): void => {
    const found = value[key]
    if (found === undefined || found === null || (orOne && isText(found))) return
    if (!Array.isArray(found)) fail(key, orOne ? 'a string or a list of strings' : 'a list of strings', found)
    for (const [i, item] of (found as unknown[]).entries()) must(`${key}[${i}]`, item, isText, 'a string')
  }
  const numbers = (key: string, test: (v: unknown) => unknown, wanted: string): void => {
    maybe(key, isRecord, 'an object of patterns')
    for (const [pattern, n] of Object.entries((value[key] ?? {}) as object))
      must(`${key}[${JSON.stringify(pattern)}]`, n, test, wanted)
    patterned((value[key] ?? {}) as Record<string, number>, `${FILE}: ${key}`)
  }

  if (value['peft_type'] !== 'LORA')
    throw new Error(`${FILE}: peft_type ${show(value['peft_type'])} is not supported; supported is "LORA"`)
  for (const [key, fine] of Object.entries(INERT))
    if (!isEmpty(value[key]) && !fine.includes(value[key]))
      throw new Error(
        `${FILE}: ${key} is ${show(value[key])}, which is not supported; supported are plain LoRA and rsLoRA with bias, patterns and modules_to_save. Fold the adapter with PEFT (merge_and_unload) and load the merged model`,
      )
  if (!INITS.includes(value['init_lora_weights']))
    throw new Error(
      `${FILE}: init_lora_weights is ${show(value['init_lora_weights'])}, which changes the base model and is not supported; supported are true, false, "gaussian" and "eva". Convert the adapter with PEFT (save_pretrained with path_initial_model_for_weight_conversion)`,
    )
  must('r', value['r'], isWhole(1), 'a whole number of at least 1')
  must('lora_alpha', value['lora_alpha'], isNumber, 'a number')
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
    if (isText(value[key])) pythonRegExp(value[key], (s) => s, `${FILE}: ${key}`)
  const layers = value['layers_to_transform']
  for (const [i, layer] of (Array.isArray(layers) ? layers : []).entries())
    must(`layers_to_transform[${i}]`, layer, isWhole(0), 'the number of a layer')
  if (!Array.isArray(layers)) maybe('layers_to_transform', isWhole(0), 'the number of a layer or a list of them')
  numbers('rank_pattern', isWhole(1), 'a whole number of at least 1')
  numbers('alpha_pattern', isNumber, 'a number')
  maybe('bias', (v) => ['none', 'all', 'lora_only'].includes(v as string), '"none", "all" or "lora_only"')
  maybe('lora_dropout', (v) => isNumber(v) && (v as number) >= 0 && (v as number) < 1, 'a number in [0, 1)')
  for (const key of ['use_rslora', 'lora_bias', 'fan_in_fan_out', 'inference_mode'])
    maybe(key, (v) => typeof v === 'boolean', 'true or false')
  for (const key of ['task_type', 'base_model_name_or_path']) maybe(key, isText, 'a string')
  return value as unknown as PeftConfig
}

/** The adapter_config.json of a folder. @throws Error, naming the field that is wrong */
export const readPeftConfig = async (folder: Folder): Promise<PeftConfig> => {
  const text = await folder.text(FILE)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new Error(`${folder.name}/${FILE}: not valid JSON (${(error as Error).message}); download it again`)
  }
  try {
    return peftConfig(value)
  } catch (error) {
    throw new Error(`${folder.name}/${(error as Error).message}`)
  }
}
