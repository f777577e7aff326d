import { fromPeft, loadPeft, readPeftConfig, savePeft } from '@weftjs/lora'
import { miniFolder } from '@weftjs/mini'
import {
  attach,
  checkTokenizer,
  loadNetwork,
  loadTokenizer,
  type ModelTokenizer,
  sitesOf,
  type TransformerConfig,
  type Tuned,
  tunedOf,
} from '@weftjs/model'
import { fromPacked, quantize } from '@weftjs/quant'
import type { Network, Params } from '@weftjs/spec'
import { bytesOf, clone, countParams, dispose, keepParams, mapParams, rng, tidy } from '@weftjs/tensor'
import { blobSinks, type Folder } from '@weftjs/tensor/checkpoint'
import { tensorsOf } from '@weftjs/weight'
import type { Adapter, Model, Requests } from '../protocol.ts'
import { basesOf, codecFor, WHOLE } from './bases.ts'
import { adapterFolder, modelFolder } from './files.ts'
import type { Context } from './main.ts'

export interface Loaded {
  readonly folder: Folder
  readonly name: string
  /** format of the frozen matrices: of `Model.bases` */
  readonly base: string
  readonly network: Network<TransformerConfig>
  readonly tokenizer: ModelTokenizer
}
export interface Tuning {
  readonly tuned: Tuned
  readonly params: Params
  readonly title: string
  readonly steps: number
}
/** What the worker holds: one model, and the adapter on it. */
export interface Session {
  loaded?: Loaded
  tuning?: Tuning | undefined
}

export const loadedOf = ({ loaded }: Session): Loaded => {
  if (!loaded) throw new Error('There is no model yet: choose one above.')
  return loaded
}

const release = (network: Network<TransformerConfig> | undefined): void => {
  if (network) dispose(tensorsOf(network))
}

export const dropTuning = (session: Session): void => {
  const { tuning } = session
  if (!tuning) return
  const { params, tuned } = tuning
  session.tuning = undefined
  dispose([...new Set([...Object.values(params), ...Object.values(tuned.params), ...Object.values(tuned.constants)])])
}

const open = (folder: Folder, tell?: Context<'load'>['tell']): Promise<Network<TransformerConfig>> =>
  loadNetwork(folder, {
    packed: fromPacked,
    onProgress: ({ tensors, of }) => tell?.({ done: tensors, of }),
  })

/** numbers of the model, however few bits each has; what is tied counts once */
const parametersOf = (network: Network<TransformerConfig>): number => {
  const counted = new Set<unknown>()
  let n = countParams(network.vectors)
  for (const { parts, shape } of Object.values(network.weights)) {
    const [first] = Object.values(parts)
    if (!counted.has(first)) n += shape.reduce((a, b) => a * b, 1)
    counted.add(first)
  }
  return n
}

/** Loads mini or a picked folder; what was there before goes only when this one is whole. */
export const loadModel = async (
  session: Session,
  picked: Requests['load']['in'],
  { tell }: Context<'load'>,
): Promise<Model> => {
  const folder = picked === 'mini' ? miniFolder() : await modelFolder(picked)
  const name = picked === 'mini' ? picked : picked.name
  // the small file first: a folder without it need not be read
  const tokenizer = await loadTokenizer(folder)
  const network = await open(folder, tell)
  try {
    checkTokenizer(tokenizer, network.config)
    if (network.config.output !== 'causal')
      throw new Error(`${name} is a ${network.config.architecture} that does not write text: pick a decoder.`)
  } catch (error) {
    release(network)
    throw error
  }
  dropTuning(session)
  release(session.loaded?.network)
  session.loaded = { folder, name, network, tokenizer, base: WHOLE }
  const { config } = network
  const tensors = { ...tensorsOf(network) } as unknown as Params
  const parts = Object.keys(network.weights).flatMap((n) => /^blocks\.\d+\.(.+)$/.exec(n)?.[1] ?? [])
  const bytes = bytesOf(tensors)
  return {
    name,
    architecture: config.architecture,
    parameters: parametersOf(network),
    bytes,
    bases: basesOf(network, bytes),
    layers: config.layers,
    width: config.width,
    vocabulary: config.vocabulary,
    length: config.maxLength,
    parts: [...new Set(parts)],
  }
}

/** The model with its frozen weights in this format; read anew where they are in another. */
export const withBase = async (session: Session, base: string): Promise<Loaded> => {
  const loaded = loadedOf(session)
  if (loaded.base === base) return loaded
  const codec = base === WHOLE ? undefined : codecFor(base, loaded.network)
  dropTuning(session)
  let { network } = loaded
  if (loaded.base !== WHOLE) {
    network = await open(loaded.folder)
    release(loaded.network)
  }
  session.loaded = { ...loaded, base: WHOLE, network }
  if (codec) session.loaded = { ...loaded, base, network: await quantize(network, codec, { consume: true }) }
  return session.loaded
}

/** copies of an adapter's tensors, which training will not take away; dispose them */
export const snapshot = ({ params }: Tuning): Params => tidy(() => keepParams(mapParams(params, (t) => clone(t))))

export const describe = ({ tuned, title, steps }: Tuning): Adapter => ({
  title,
  steps,
  sites: tuned.bound.length,
  parameters: countParams(tuned.params),
})

/** The adapter as PEFT's two files. */
export const saveAdapter = async (session: Session): Promise<Readonly<Record<string, Blob>>> => {
  const { tuning } = session
  if (!tuning) throw new Error('There is no adapter yet: train one first.')
  const params = snapshot(tuning)
  try {
    const written = blobSinks()
    await savePeft(written.open, tuning.tuned, params, { base: loadedOf(session).name })
    return Object.fromEntries(written.blobs())
  } finally {
    dispose(Object.values(params))
  }
}

/** An adapter from its files; the one that is there stays if these are wrong. */
export const loadAdapter = async (session: Session, files: readonly File[]): Promise<Adapter> => {
  const { network } = loadedOf(session)
  const folder = await adapterFolder(files)
  const start = fromPeft(await readPeftConfig(folder), network, sitesOf(network))
  const fresh = attach(start.network, start.attachments, rng(0), start.options)
  let read: Awaited<ReturnType<typeof loadPeft>>
  try {
    read = await loadPeft(folder, fresh)
  } catch (error) {
    dispose(Object.values({ ...fresh.params, ...fresh.constants }))
    throw error
  }
  dropTuning(session)
  const { params, constants } = read
  const tuned = tunedOf({ ...fresh, constants: { ...fresh.constants, ...constants } })
  session.tuning = { tuned, params, title: 'a loaded adapter', steps: 0 }
  return describe(session.tuning)
}
