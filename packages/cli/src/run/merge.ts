import { mkdir, readFile, realpath, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { type MergePlan, mergeCheckpoints } from '@weftjs/merge'
import { neededOf } from '@weftjs/model/hub'
import type { Config } from '@weftjs/spec'
import { type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { saveCheckpoint } from '@weftjs/tensor/checkpoint/file'
import { startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure } from '../fail.ts'
import { writeBytes, writeJson } from '../files.ts'
import { openFolder } from '../models.ts'
import { guardOut } from '../out.ts'
import { print, printJson, status, statusDone } from '../terminal.ts'
import { parseYaml } from '../yaml.ts'

const WORDS: Readonly<Record<string, string>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }
const LAYERS = ['num_hidden_layers', 'n_layer', 'num_layers'] as const

/** the first model's config.json, with what the merge has changed */
const configOf = (source: Config, { recipe, layers }: MergePlan): Config => {
  const config: Record<string, unknown> = { ...source }
  if (recipe.dtype)
    config['torch_dtype' in source && !('dtype' in source) ? 'torch_dtype' : 'dtype'] = WORDS[recipe.dtype]
  if (layers === undefined) return config
  const field = LAYERS.find((f) => f in source)
  if (!field)
    throw new Failure(`config.json: has none of ${LAYERS.join(', ')}, so its number of layers cannot be changed`)
  config[field] = layers
  // one entry a layer: sliding or full attention
  const types = source['layer_types']
  if (Array.isArray(types))
    config['layer_types'] = recipe.slices.flatMap(({ sources }) => types.slice(...sources[0]!.layers!))
  return config
}

/** a model of the recipe: a folder beside the recipe or in the working folder, mini, or a name on the hub */
const findModel = async (recipe: string, model: string): Promise<Folder> => {
  if (model === 'mini') return openFolder(model)
  for (const path of [resolve(dirname(recipe), model), resolve(model)])
    if (await stat(path).catch(() => undefined)) return openFolder(path)
  return openFolder(model)
}

const configIn = async (folder: Folder): Promise<Config> => {
  const text = await folder.text('config.json')
  let config: Config
  try {
    config = JSON.parse(text) as Config
  } catch (error) {
    throw new Failure(`${folder.name}/config.json: not valid JSON (${(error as Error).message}); download it again`)
  }
  if (config['quantization_config'])
    throw new Failure(
      `${folder.name}: holds quantized weights, which cannot be averaged as they are; name the model in float32, float16 or bfloat16`,
    )
  return config
}

export const merge = async ({ args: [path, target], text, number, flag }: Call): Promise<number> => {
  const out = resolve(target!)
  const shard = number('shard', { min: 1, whole: true })
  const recipe = parseYaml(
    await readFile(path!, 'utf8').catch((error) => {
      throw new Failure(
        `${path}: ${error.code === 'EISDIR' ? 'a folder; name a YAML file' : 'there is no such recipe; check the path'}`,
      )
    }),
    path!,
  )
  const { name } = await startBackend(text('backend'))
  const folders = new Map<string, Folder>()
  const open = async (model: string): Promise<Awaited<ReturnType<typeof openCheckpoint>>> => {
    const folder = folders.get(model) ?? (await findModel(path!, model))
    folders.set(model, folder)
    await guardOut(out, folder)
    await configIn(folder)
    return openCheckpoint(folder)
  }
  const files = await mergeCheckpoints(recipe, open, (plan) => write(plan, folders, out, shard), {
    onProgress: ({ name, tensors, of }) => status(`merging ${name}, ${tensors} of ${of} tensors`),
  }).catch((error: Error & { code?: string }) => {
    // what is wrong in the recipe is named by its path there
    const own = error.name === 'Error' && error.code === undefined && !(error instanceof Failure)
    throw own ? new Failure(`${path}: ${error.message}`) : error
  })
  statusDone()
  if (flag('json')) printJson({ out, models: [...folders.keys()], backend: name, files })
  else print(`${out}: ${files.join(', ')} from ${[...folders.keys()].join(', ')}`)
  return 0
}

/** the checkpoint first and whole, then what stands beside it; a folder that was not there is gone again on failure */
const write = async (
  plan: MergePlan,
  folders: ReadonlyMap<string, Folder>,
  out: string,
  shard: number | undefined,
): Promise<string[]> => {
  const config = configOf(await configIn(folders.get(plan.config)!), plan)
  const from = folders.get(plan.tokenizer)!
  const rest = new Map<string, Uint8Array>()
  for (const file of neededOf((await from.list?.()) ?? []))
    if (file !== 'config.json' && !file.startsWith('model')) {
      const source = await from.open(file)
      rest.set(file, await source.read(0, source.size))
      await source.close?.()
    }
  const made = await mkdir(out, { recursive: true })
  try {
    const files = await saveCheckpoint(out, plan.tensors, {
      metadata: { format: 'pt' },
      ...(shard !== undefined && { maxShardBytes: shard }),
    })
    await writeJson(join(out, 'config.json'), config)
    for (const [file, bytes] of rest) await writeBytes(join(out, file), bytes)
    return [...files, 'config.json', ...rest.keys()]
  } catch (error) {
    if (made !== undefined) await rm(await realpath(made), { recursive: true, force: true })
    throw error
  }
}
