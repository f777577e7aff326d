import { fromPeft, loadPeft, PEFT_CONFIG, PEFT_TENSORS, readPeftConfig, savePeft } from '@weftjs/lora'
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
import { fromBnb, nf4, quantize } from '@weftjs/quant'
import type { Network, Params, Tensor } from '@weftjs/spec'
import { bytesOf, clone, countParams, dispose, keepParams, mapParams, rng, tidy } from '@weftjs/tensor'
import { blobFolder, blobSink, type Folder } from '@weftjs/tensor/checkpoint'
import { unzipSync } from 'fflate'
import type { Adapter, Model, Requests } from '../protocol.ts'
import type { Context } from './main.ts'

export type Base = 'float32' | 'nf4'

export interface Loaded {
  readonly folder: Folder
  readonly name: string
  readonly base: Base
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

/** every tensor of a network; a tied matrix once */
const tensorsOf = ({ weights, vectors }: Network<TransformerConfig>): readonly Tensor[] => [
  ...new Set([...Object.values(weights).flatMap((w) => Object.values(w.parts)), ...Object.values(vectors)]),
]

const release = (network: Network<TransformerConfig> | undefined): void => {
  if (network) dispose([...tensorsOf(network)])
}

export const dropTuning = (session: Session): void => {
  const { tuning } = session
  if (!tuning) return
  const { params, tuned } = tuning
  session.tuning = undefined
  dispose([...new Set([...Object.values(params), ...Object.values(tuned.params), ...Object.values(tuned.constants)])])
}

const open = async (
  folder: Folder,
  base: Base,
  tell?: Context<'load'>['tell'],
): Promise<Network<TransformerConfig>> => {
  const network = await loadNetwork(folder, {
    packed: fromBnb,
    onProgress: ({ tensors, of }) => tell?.({ done: tensors, of }),
  })
  return base === 'nf4' ? quantize(network, nf4(), { consume: true }) : network
}

/** Loads mini or a picked folder; what was there before goes only when this one is whole. */
export const loadModel = async (
  session: Session,
  picked: Requests['load']['in'],
  { tell }: Context<'load'>,
): Promise<Model> => {
  const folder = picked === 'mini' ? miniFolder() : blobFolder(picked.files, picked.name)
  const name = picked === 'mini' ? picked : picked.name
  if (picked !== 'mini' && !(await folder.has('config.json')))
    throw new Error(
      'This is no folder of a model: it has no config.json. Pick one as it comes from the Hugging Face hub, with config.json, model.safetensors and tokenizer.json.',
    )
  // the small file first: a folder without it need not be read
  const tokenizer = await loadTokenizer(folder)
  const network = await open(folder, 'float32', tell)
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
  session.loaded = { folder, name, network, tokenizer, base: 'float32' }
  const { config } = network
  const tensors = { ...tensorsOf(network) } as unknown as Params
  const parts = Object.keys(network.weights).flatMap((n) => /^blocks\.\d+\.(.+)$/.exec(n)?.[1] ?? [])
  return {
    name,
    architecture: config.architecture,
    parameters: countParams(tensors),
    bytes: bytesOf(tensors),
    layers: config.layers,
    width: config.width,
    vocabulary: config.vocabulary,
    length: config.maxLength,
    parts: [...new Set(parts)],
  }
}

/** The model with its frozen weights in this format; read anew where they are in another. */
export const withBase = async (session: Session, base: Base): Promise<Loaded> => {
  const loaded = loadedOf(session)
  if (loaded.base === base) return loaded
  dropTuning(session)
  const network = base === 'nf4' ? await quantize(loaded.network, nf4(), { consume: true }) : undefined
  if (!network) release(loaded.network)
  session.loaded = { ...loaded, base, network: network ?? (await open(loaded.folder, base)) }
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
    const sinks = new Map<string, ReturnType<typeof blobSink>>()
    const open = (file: string): ReturnType<typeof blobSink> => {
      const sink = blobSink()
      sinks.set(file, sink)
      return sink
    }
    await savePeft(open, tuning.tuned, params, { base: loadedOf(session).name })
    return Object.fromEntries([...sinks].map(([file, sink]) => [file, sink.blob()]))
  } finally {
    dispose(Object.values(params))
  }
}

const unpack = async (files: readonly File[]): Promise<readonly File[]> => {
  const zip = files.find((f) => /\.zip$/i.test(f.name))
  if (!zip) return files
  let inside: Record<string, Uint8Array>
  try {
    inside = unzipSync(new Uint8Array(await zip.arrayBuffer()))
  } catch (error) {
    throw new Error(`${zip.name} cannot be unpacked: ${(error as Error).message}. Download it again.`)
  }
  return Object.entries(inside)
    .filter(([path]) => !path.endsWith('/'))
    .map(([path, bytes]) => new File([bytes as BlobPart], path.split('/').at(-1)!))
}

/** An adapter from PEFT's two files, or from a zip of them; the one that is there stays if these are wrong. */
export const loadAdapter = async (session: Session, files: readonly File[]): Promise<Adapter> => {
  const { network } = loadedOf(session)
  const found = new Map((await unpack(files)).map((f) => [f.name, f]))
  const missing = [PEFT_CONFIG, PEFT_TENSORS].filter((f) => !found.has(f))
  if (missing.length)
    throw new Error(
      `An adapter is ${PEFT_CONFIG} and ${PEFT_TENSORS} together, or a zip with both; ${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} missing among ${[...found.keys()].join(', ') || 'nothing'}.`,
    )
  const folder = blobFolder(found, 'the adapter')
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
