import { readFile, stat } from 'node:fs/promises'
import { dirname, isAbsolute, resolve } from 'node:path'
import type { z } from 'zod'
import { complaints } from './complaint.ts'
import { Failure, usage } from './fail.ts'
import {
  type DataSettings,
  discord,
  type FinetuneFile,
  finetuneFile,
  type PretrainFile,
  pretrainFile,
  type TrainSettings,
} from './schema.ts'
import { parseYaml } from './yaml.ts'

export interface RunFile<T> {
  readonly settings: T
  readonly path: string
  /** where relative paths and packages are looked for: the run file's folder, then the working folder */
  readonly folders: readonly string[]
  /** the first of: the run file's folder, the working folder, where a relative path exists */
  find(path: string, field: string): Promise<string>
}

const MAX_BYTES = 1e6

const read = async <T extends { data: DataSettings; train: TrainSettings }>(
  schema: z.ZodType<T>,
  path: string,
  sets: readonly string[],
  out: string | undefined,
): Promise<RunFile<T>> => {
  const info = await stat(path).catch(() => undefined)
  if (!info) throw new Failure(`${path}: there is no such run file; check the path`)
  if (info.isDirectory()) throw new Failure(`${path}: a folder, not a run file; name a YAML file in it`)
  if (info.size > MAX_BYTES) throw new Failure(`${path}: ${info.size} bytes are no run file; name a YAML file`)
  let value = parseYaml(await readFile(path, 'utf8'), path)
  const set = new Set<string>()
  for (const assignment of sets) {
    const at = assignment.indexOf('=')
    if (at < 1) throw usage(`--set takes path=value, found '${assignment}'`)
    const field = assignment.slice(0, at)
    let leaf: unknown
    try {
      leaf = parseYaml(assignment.slice(at + 1), `--set ${field}`)
    } catch (error) {
      throw usage((error as Error).message)
    }
    value = put(value, field.split('.'), leaf, field)
    set.add(field)
  }
  if (out !== undefined) value = put(value, ['out'], out, 'out')
  const result = schema.safeParse(value)
  if (!result.success)
    throw new Failure(
      result.error.issues
        .flatMap((issue) => complaints(issue, value, schema))
        .map((line) => `${path}: ${line}`)
        .join('\n'),
    )
  const odd = discord(value, result.data)
  if (odd.length) throw new Failure(odd.map((line) => `${path}: ${line}`).join('\n'))
  return {
    settings: result.data,
    path,
    folders: [dirname(resolve(path)), process.cwd()],
    find: async (name, field) => {
      const own = resolve(dirname(path), name)
      const here = resolve(name)
      const tries = isAbsolute(name) ? [name] : set.has(field) || own === here ? [here] : [own, here]
      for (const candidate of tries) if (await stat(candidate).catch(() => undefined)) return candidate
      throw new Failure(`${path}: ${field}: there is no ${tries.join(' and no ')}; correct the path`)
    },
  }
}

/** The run file of `weft finetune`, checked; `sets` are path=value, `out` takes the place of the file's. */
export const readFinetune = (path: string, sets: readonly string[], out?: string): Promise<RunFile<FinetuneFile>> =>
  read(finetuneFile as unknown as z.ZodType<FinetuneFile>, path, sets, out)
/** The run file of `weft pretrain`. */
export const readPretrain = (path: string, sets: readonly string[], out?: string): Promise<RunFile<PretrainFile>> =>
  read(pretrainFile as unknown as z.ZodType<PretrainFile>, path, sets, out)

/** value with `path` set; steps through objects and arrays that are there */
const put = (value: unknown, [key, ...rest]: readonly string[], leaf: unknown, field: string): unknown => {
  if (key === undefined) return leaf
  if (Array.isArray(value)) {
    const index = Number(key)
    if (!/^\d+$/.test(key) || index > value.length)
      throw usage(`--set ${field}: '${key}' is no index of a list of ${value.length}`)
    return [...value.slice(0, index), put(value[index], rest, leaf, field), ...value.slice(index + 1)]
  }
  if (key === '' || ['__proto__', 'constructor', 'prototype'].includes(key))
    throw usage(`--set ${field}: '${key}' is no field`)
  const record = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  return { ...record, [key]: put(Object.hasOwn(record, key) ? record[key] : undefined, rest, leaf, field) }
}
