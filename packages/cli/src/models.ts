import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import {
  type Formats,
  type FromPeft,
  fromPeft,
  loadPeft,
  nativeMethod,
  PEFT_CONFIG,
  type PeftConfig,
  peftBase,
  readPeftConfig,
} from '@weftjs/lora'
import { miniFolder } from '@weftjs/mini'
import {
  attach,
  attachAsync,
  checkTokenizer,
  deleteAdapters,
  loadNetwork,
  loadTokenizer,
  type ModelTokenizer,
  replicateLayers,
  resizeVocabulary,
  sitesOf,
  type TransformerConfig,
  type Tuned,
  tunedOf,
  type WeightReader,
} from '@weftjs/model'
import { openModel } from '@weftjs/model/node'
import { compeftFolder, fromHalf, fromPacked, ggufAdapterFolder, ggufFolder, isCompeft } from '@weftjs/quant'
import type { Config, Network, Params, Rng } from '@weftjs/spec'
import { bytesOf, rng, selectParams } from '@weftjs/tensor'
import type { Folder } from '@weftjs/tensor/checkpoint'
import { fromFile, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { loadMethod } from './adapters.ts'
import { Failure, usage } from './fail.ts'
import { size, status, statusDone } from './terminal.ts'

/** The folder behind MODEL: `mini`, a GGUF file, a folder on disk, or a name on the hub. */
export const openFolder = async (model: string): Promise<Folder> => {
  if (model === 'mini') return miniFolder()
  if (model.endsWith('.gguf')) return ggufFolder(await fromFile(model))
  const folder = await openModel(model, {
    onDownload: ({ file, bytes, of }) => status(`downloading ${file}: ${size(bytes)} of ${size(of)}`),
  })
  statusDone()
  return folder
}

/** config.json of MODEL, with the name that it was asked for by */
export const configOf = async (model: string): Promise<Config> => {
  const folder = await openFolder(model)
  return { ...(JSON.parse(await folder.text('config.json')) as Config), _name_or_path: model }
}

/**
 * The model that an adapter is for: the one that is given, or the one that its config names.
 * @throws Failure where there is none, or it is not here
 */
export const modelNamed = async (
  path: string,
  named: string | null | undefined,
  given: string | undefined,
): Promise<string> => {
  const model = given ?? named ?? undefined
  if (model === undefined)
    throw usage(`${path}: its config names no model; say on which it was trained with --model MODEL`)
  if (given === undefined && model !== 'mini' && !/^[\w-][\w.-]*\/[\w.-]+$/.test(model))
    await stat(model).catch(() => {
      throw new Failure(`${path}: its config names the model ${model}, which is not here; give --model MODEL`)
    })
  return model
}

/** A model's network, with progress; quantized folders are read as they are, and 16-bit ones where it is asked for. */
export const openNetwork = async (
  folder: Folder,
  { precision = 'float32', packed }: { precision?: 'float32' | 'checkpoint' | undefined; packed?: WeightReader } = {},
): Promise<Network<TransformerConfig>> => {
  const half: WeightReader = async (...args) =>
    (await fromPacked(args[0], args[1], args[2], args[3])) ?? fromHalf(...args)
  if (!(await folder.has('config.json')) && (await folder.has(PEFT_CONFIG)))
    throw new Failure(
      `${folder.name}: is an adapter, and a model is needed; name the one that it was trained on, and this with --adapter`,
    )
  const network = await loadNetwork(folder, {
    packed: packed ?? (precision === 'checkpoint' ? half : fromPacked),
    onProgress: ({ tensors, of, bytes }) =>
      status(`loading ${folder.name}: ${tensors} of ${of} tensors, ${size(bytes)}`),
  }).catch((error: Error) => {
    // whose config.json it is
    throw error.message.startsWith('config.json: ') ? new Failure(`${folder.name}/${error.message}`) : error
  })
  statusDone()
  return network
}

export const openTokenizer = async (folder: Folder, network: Network<TransformerConfig>): Promise<ModelTokenizer> => {
  const tokenizer = await loadTokenizer(folder)
  checkTokenizer(tokenizer, network.config)
  return tokenizer
}

/** where the method of an adapter that is not ours comes from, as seen from its folder; beside what `savePeft` writes */
export const PACKAGE = 'weft_package'

const isFile = async (path: string): Promise<boolean> => Boolean((await stat(path).catch(() => undefined))?.isFile())

/** what a file begins with; nothing of a folder */
const beginning = async (path: string): Promise<Uint8Array> => {
  if (!(await isFile(path))) return new Uint8Array(0)
  const source = await fromFile(path)
  try {
    return (await source.read(0, Math.min(4, source.size))).slice()
  } finally {
    await source.close?.()
  }
}

/** Is this a file of ComPEFT? Its first bytes tell. */
export const isCompeftFile = async (path: string): Promise<boolean> => isCompeft(await beginning(path))

/** Is this a GGUF file, of a model or of a LoRA? */
export const isGgufFile = async (path: string): Promise<boolean> =>
  new TextDecoder().decode(await beginning(path)) === 'GGUF'

/** of a file that is one of ComPEFT: its bytes */
export const compeftIn = async (path: string): Promise<Uint8Array | undefined> =>
  (await isCompeftFile(path)) ? readFile(path) : undefined

/** a GGUF LoRA as a folder */
const ggufLora = async (path: string, config: Config | undefined): Promise<Folder> => {
  try {
    return await ggufAdapterFolder(() => fromFile(path), config ? { config } : {})
  } catch (error) {
    throw new Failure(
      (error as Error).message
        .replace("pass its config.json as 'config'", `weft convert ${path} DIR --to peft --model MODEL puts them in it`)
        .replace('a model is opened by ggufFolder', 'name one, and not a model'),
    )
  }
}

/**
 * An adapter's files: those of its folder, or what a ComPEFT file or a GGUF LoRA holds.
 * @param config of the model: rows of q and k of a GGUF LoRA lie by its heads, which not every file says
 */
export const adapterFolder = async (path: string, config?: Config): Promise<Folder> => {
  if (await isGgufFile(path)) return ggufLora(path, config)
  const data = await compeftIn(path)
  return data ? compeftFolder(data, { file: path }) : nodeFolder(path)
}

/**
 * What is behind `--adapter`: each the folder of an adapter, one whose folders are, a ComPEFT file, or a GGUF LoRA.
 * @throws Failure for another
 */
export const adapterFolders = async (paths: readonly string[]): Promise<string[]> => {
  const found: string[] = []
  for (const path of paths) {
    const isAdapter = async (p: string): Promise<boolean> =>
      Boolean(await stat(join(p, PEFT_CONFIG)).catch(() => undefined))
    if ((await isAdapter(path)) || (await isCompeftFile(path)) || (await isGgufFile(path))) {
      found.push(path)
      continue
    }
    const entries = await readdir(path, { withFileTypes: true }).catch((error: { code?: string }) => {
      throw new Failure(
        `${path}: ${error.code === 'ENOTDIR' ? 'a file that is no ComPEFT one and no GGUF LoRA; name the folder of an adapter' : 'there is no such adapter; check the path'}`,
      )
    })
    const inner: string[] = []
    for (const e of entries)
      if (e.isDirectory() && (await isAdapter(join(path, e.name)))) inner.push(join(path, e.name))
    if (!inner.length) throw new Failure(`${path}: no adapter (no ${PEFT_CONFIG}); name the folder of one`)
    found.push(...inner.sort())
  }
  return found
}

/** The one adapter behind a path. @throws Failure for several, and what `adapterFolders` throws */
export const oneAdapter = async (path: string): Promise<string> => {
  const [first, ...others] = await adapterFolders([path])
  if (others.length)
    throw new Failure(
      `${path}: holds ${others.length + 1} adapters, ${[first!, ...others].map((f) => basename(f)).join(', ')}; name one`,
    )
  return first!
}

/** how an adapter of a method that PEFT does not have is made: ours, or the package that its folder names */
const formatsFor = async (path: string, folder: Folder): Promise<Formats> => {
  let config: Record<string, unknown>
  try {
    config = JSON.parse(await folder.text(PEFT_CONFIG)) as Record<string, unknown>
  } catch {
    return {} // readPeftConfig says what is wrong
  }
  const method = typeof config === 'object' && config ? nativeMethod(config) : undefined
  if (method === undefined) return {}
  const from = config[PACKAGE]
  const name = typeof from === 'string' ? from : method
  const { factory } = await loadMethod(
    name,
    [path, process.cwd()],
    `${join(path, PEFT_CONFIG)}: ${from ? PACKAGE : 'weft_method'}`,
  )
  return { make: (_, options) => factory(options) }
}

/** Adapters on a network, with the values and the configs of their folders, each under a name of its own. */
export interface Opened {
  readonly tuned: Tuned
  readonly params: Params
  readonly adapters: readonly {
    readonly name: string
    readonly path: string
    readonly config: PeftConfig
    readonly formats: Formats
  }[]
}

/**
 * Adapters from their folders, all at once. One alone has the name of its method; several have those of their folders.
 * @throws Error where two train the same tensors of the model itself
 */
export const openAdapters = async (
  network: Network<TransformerConfig>,
  paths: readonly string[],
  random: Rng,
): Promise<Opened> => {
  const folders = await adapterFolders(paths)
  const read: (Opened['adapters'][number] & {
    readonly folder: Folder
    readonly start: FromPeft<Network<TransformerConfig>>
  })[] = []
  let base = network
  for (const path of folders) {
    const folder = await adapterFolder(path, network.config.source)
    const formats = await formatsFor(path, folder)
    const config = await readPeftConfig(folder, formats)
    base = await peftBase(folder, config, base, {
      sites: sitesOf,
      replicate: replicateLayers,
      resize: resizeVocabulary,
    })
    const start = fromPeft(config, base, sitesOf(base), formats)
    base = start.network
    const plain = start.attachments[0].adapter.name
    const own = basename(resolve(path))
      .replace(/[^\w-]+/g, '-')
      .replace(/^whole$/, 'whole-')
    const taken = read.filter(({ name }) => name === own || name.startsWith(`${own}-`)).length
    const name = folders.length === 1 ? plain : taken ? `${own}-${taken + 1}` : own
    read.push({ name, path, folder, config, formats, start })
  }
  const train = read.flatMap((r) => r.start.options.train ?? [])
  const twice = train.find((n, i) => train.indexOf(n) < i)
  if (twice !== undefined)
    throw new Failure(`${twice}: two of the adapters have a copy of it, and only one can stand; take one of them`)
  const attached = await attachAsync(
    base,
    read.map((r) => ({ ...r.start.attachments[0], name: r.name })),
    random,
    train.length ? { train } : {},
  )
  let [params, constants] = [attached.params, attached.constants]
  for (const { name, folder, formats, start } of read) {
    const others = read.filter((r) => r.name !== name).map((r) => r.name)
    const mine = deleteAdapters(attached, others)
    const whole = start.options.train ?? []
    const own = selectParams(mine.params, (n) => whole.includes(n) || !train.includes(n))
    const loaded = await loadPeft(folder, { ...mine, params: own }, formats)
    params = { ...params, ...loaded.params }
    constants = { ...constants, ...loaded.constants }
  }
  const adapters = read.map(({ start: _, folder: __, ...rest }) => rest)
  return { tuned: tunedOf({ ...attached, params, constants }), params, adapters }
}

/** The model with adapters, or as it is. */
export const tunedFrom = async (
  network: Network<TransformerConfig>,
  paths: readonly string[],
): Promise<{ tuned: Tuned; params: Params }> =>
  paths.length ? openAdapters(network, paths, rng(0)) : { tuned: attach(network, [], rng(0)), params: {} }

/** bytes of a network's matrices */
export const weigh = ({ weights }: Pick<Network, 'weights'>): number =>
  Object.values(weights).reduce((n, w) => n + bytesOf(w.parts), 0)
