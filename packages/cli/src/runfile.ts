import { readFile, stat } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import { parseDocument } from 'yaml'
import { z } from 'zod'
import { Failure, usage } from './fail.ts'

const positive = z.number().positive()
const count = z.number().int().min(1)
const globs = z.union([z.string(), z.array(z.string()).min(1)])
const fraction = z.number().min(0).lt(1)

const train = z.strictObject({
  steps: count,
  batch: count.default(8),
  length: z.number().int().min(2).default(256),
  optimizer: z.enum(['adamw', 'sgd']).default('adamw'),
  lr: positive.default(2e-4),
  schedule: z.enum(['constant', 'linear', 'cosine', 'wsd']).default('cosine'),
  warmup: z.number().int().min(0).default(0),
  /** steps of the last, falling part of `wsd` */
  decay: z.number().int().min(0).optional(),
  seed: z.number().int().default(0),
  weight_decay: z.number().min(0).default(0.01),
  betas: z.tuple([fraction, fraction]).default([0.9, 0.999]),
  momentum: fraction.default(0),
  /** largest norm of the gradient */
  clip: positive.optional(),
  accumulate: count.default(1),
  /** steps between checkpoints */
  checkpoint: count.default(100),
  /** steps between looks at the validation part */
  validate: count.optional(),
})

const data = z.strictObject({
  path: globs,
  format: z.enum(['text', 'completion', 'chat', 'ids']),
  /** of text: a regular expression between documents */
  split: z.string().optional(),
  field: z.string().optional(),
  prompt: z.string().optional(),
  completion: z.string().optional(),
  messages: z.string().optional(),
  stride: count.optional(),
  /** part that is set aside to measure on */
  validation: z.number().min(0).max(0.5).default(0),
  shuffle: z.boolean().optional(),
  pack: z.boolean().optional(),
})

const newAdapter = z.strictObject({
  method: z.string(),
  at: globs,
  rank: count.optional(),
  alpha: positive.optional(),
  rslora: z.boolean().optional(),
  dropout: fraction.optional(),
  init: z.enum(['kaiming', 'gaussian']).optional(),
  rank_pattern: z.record(z.string(), count).optional(),
  alpha_pattern: z.record(z.string(), positive).optional(),
})
const oldAdapter = z.strictObject({ from: z.string() })

const base = z.strictObject({ codec: z.string(), at: globs.optional() })

const finetuneFile = z.strictObject({
  model: z.string(),
  base: base.optional(),
  adapters: z.array(z.union([oldAdapter, newAdapter])).default([]),
  /** tensors of the model itself that train whole: `**` for full fine-tuning */
  trains: globs.optional(),
  data,
  train,
  out: z.string(),
})
export type FinetuneFile = z.infer<typeof finetuneFile>
export type TrainSettings = z.infer<typeof train>
export type DataSettings = z.infer<typeof data>
export type AdapterSettings = z.infer<typeof newAdapter>

const pretrainFile = z.strictObject({
  /** fields of a Hugging Face config.json, or the path of one */
  config: z.union([z.string(), z.record(z.string(), z.unknown())]),
  /** a folder with tokenizer.json, or a MODEL whose tokenizer is taken */
  tokenizer: z.string(),
  data,
  /** another file to measure on, beside or instead of data.validation */
  validation: z.strictObject({ path: globs }).optional(),
  train,
  /** of the saved weights */
  dtype: z.enum(['F32', 'F16', 'BF16']).default('F32'),
  out: z.string(),
})
export type PretrainFile = z.infer<typeof pretrainFile>

export interface RunFile<T> {
  readonly settings: T
  /** the first of: the run file's folder, the working folder, where a relative path exists */
  find(path: string, field: string): Promise<string>
}

const read = async <T>(schema: z.ZodType<T>, path: string, sets: readonly string[]): Promise<RunFile<T>> => {
  const text = await readFile(path, 'utf8').catch(() => {
    throw new Failure(`${path}: there is no such run file`)
  })
  const document = parseDocument(text, { prettyErrors: true })
  if (document.errors.length) throw new Failure(`${path}: ${document.errors[0]!.message}`)
  let value = document.toJS() as unknown
  const set = new Set<string>()
  for (const assignment of sets) {
    const at = assignment.indexOf('=')
    if (at < 1) throw usage(`--set takes path=value, found '${assignment}'`)
    const field = assignment.slice(0, at)
    value = put(value, field.split('.'), parseDocument(assignment.slice(at + 1)).toJS(), field)
    set.add(field)
  }
  const result = schema.safeParse(value)
  if (!result.success)
    throw new Failure(result.error.issues.map((issue) => `${path}: ${complaint(issue, value)}`).join('\n'))
  return {
    settings: result.data,
    find: async (name, field) => {
      const own = resolve(dirname(path), name)
      const here = resolve(name)
      const tries = isAbsolute(name) ? [name] : set.has(field) || own === here ? [here] : [own, here]
      for (const candidate of tries) if (await stat(candidate).catch(() => undefined)) return candidate
      throw new Failure(`${path}: ${field}: there is no ${tries.join(' and no ')}; correct the path`)
    },
  }
}

export const readFinetune = (path: string, sets: readonly string[]): Promise<RunFile<FinetuneFile>> =>
  read(finetuneFile as z.ZodType<FinetuneFile>, path, sets)
export const readPretrain = (path: string, sets: readonly string[]): Promise<RunFile<PretrainFile>> =>
  read(pretrainFile as z.ZodType<PretrainFile>, path, sets)

/** value with `path` set; steps through objects and arrays that are there */
const put = (value: unknown, [key, ...rest]: readonly string[], leaf: unknown, field: string): unknown => {
  if (key === undefined) return leaf
  if (Array.isArray(value)) {
    const index = Number(key)
    if (!Number.isInteger(index) || index < 0 || index > value.length)
      throw usage(`--set ${field}: '${key}' is no index of a list of ${value.length}`)
    return [...value.slice(0, index), put(value[index], rest, leaf, field), ...value.slice(index + 1)]
  }
  if (['__proto__', 'constructor', 'prototype'].includes(key)) throw usage(`--set ${field}: '${key}' is no field`)
  const record = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  return { ...record, [key]: put(Object.hasOwn(record, key) ? record[key] : undefined, rest, leaf, field) }
}

/** `train.steps: must be a number, found "many"` */
const complaint = (issue: z.core.$ZodIssue, root: unknown): string => {
  const place = (path: readonly PropertyKey[]): string => path.map(String).join('.') || 'the file'
  const found = issue.path.reduce<unknown>((v, key) => (v as Record<PropertyKey, unknown> | undefined)?.[key], root)
  const shown = found === undefined ? 'nothing' : JSON.stringify(found)
  if (issue.code === 'unrecognized_keys')
    return `${place([...issue.path, issue.keys[0]!])}: there is no such field here${issue.path.length ? '' : ' at the top'}`
  if (issue.code === 'invalid_union') {
    const branches = issue.errors as z.core.$ZodIssue[][]
    const best = [...branches].sort((a, b) => a.length - b.length)[0]?.[0]
    if (best && best.code !== 'invalid_type')
      return complaint({ ...best, path: [...issue.path, ...best.path] } as z.core.$ZodIssue, root)
    if (best && best.path.length)
      return complaint({ ...best, path: [...issue.path, ...best.path] } as z.core.$ZodIssue, root)
    return `${place(issue.path)}: must be of another kind, found ${shown}`
  }
  if (issue.code === 'invalid_type')
    return `${place(issue.path)}: must be ${kinds[issue.expected] ?? issue.expected}, found ${shown}`
  if (issue.code === 'invalid_value')
    return `${place(issue.path)}: must be one of ${issue.values.join(', ')}, found ${shown}`
  return `${place(issue.path)}: ${issue.message}, found ${shown}`
}
const kinds: Readonly<Record<string, string>> = {
  number: 'a number',
  int: 'a whole number',
  string: 'text',
  boolean: 'true or false',
  array: 'a list',
  object: 'a group of fields',
  record: 'a group of fields',
}
