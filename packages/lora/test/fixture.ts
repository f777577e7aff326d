import { existsSync, readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import {
  attach,
  loadNetwork,
  replicateLayers,
  resizeVocabulary,
  sitesOf,
  type TransformerConfig,
  type Tuned,
  tunedOf,
} from '@weftjs/model'
import type { Batch, Network } from '@weftjs/spec'
import { rng, type Tensor, tensor } from '@weftjs/tensor'
import {
  blobFolder,
  blobSinks,
  type Checkpoint,
  type Folder,
  fromBytes,
  openSafetensors,
} from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { fromPeft, loadPeft, peftBase, readPeftConfig, type SavePeftOptions, savePeft } from '../src/index.ts'

export const fixtures: string = new URL('../../testkit/fixtures/', import.meta.url).pathname
export const peftFolder = (name: string): Folder => nodeFolder(`${fixtures}peft/${name}`)
/** folders of adapters that Weft wrote and PEFT read, or that PEFT wrote */
export const peftNames = (by: 'weft' | 'peft'): string[] =>
  readdirSync(`${fixtures}peft`).filter(
    (n) => n.startsWith('from-weft-') === (by === 'weft') && existsSync(`${fixtures}peft/${n}/adapter_config.json`),
  )

const loaded = new Map<string, Promise<Network<TransformerConfig>>>()
export const model = (name: string): Promise<Network<TransformerConfig>> => {
  if (!loaded.has(name)) loaded.set(name, loadNetwork(nodeFolder(`${fixtures}models/${name}`)))
  return loaded.get(name)!
}

export const safetensors = async (path: string): Promise<Checkpoint> =>
  openSafetensors(fromBytes(await readFile(`${fixtures}${path}`)))

export const intsOf = async (file: Checkpoint, name: string): Promise<Tensor> =>
  tensor(await file.ints(name), file.entry(name).shape as number[], 'int32')

/** batch i of ids below 24, whose targets go on in steps of `by` */
export const batchAt = (i: number, by = 7): Batch => ({
  shape: [2, 8],
  ids: Int32Array.from({ length: 16 }, (_, j) => (j * 5 + i) % 24),
  targets: Int32Array.from({ length: 16 }, (_, j) => (j * by + 5 + i) % 24),
  positions: Int32Array.from({ length: 16 }, (_, j) => j % 8),
  segments: new Int32Array(16).fill(1),
})

/** max |a − b|; NaN counts as infinite */
export const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY
  let worst = 0
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i]! - b[i]!)
    if (Number.isNaN(d)) return Number.POSITIVE_INFINITY
    worst = Math.max(worst, d)
  }
  return worst
}

/** base and adapter, ready to run */
export const open = async (
  folder: Folder,
  base?: string,
): Promise<{
  tuned: Tuned
  params: Tuned['params']
  config: Awaited<ReturnType<typeof readPeftConfig>>
}> => {
  const config = await readPeftConfig(folder)
  const network = await peftBase(folder, config, await model(base ?? config.base_model_name_or_path!), {
    sites: sitesOf,
    replicate: replicateLayers,
    resize: resizeVocabulary,
  })
  const start = fromPeft(config, network, sitesOf(network))
  const tuned = attach(start.network, start.attachments, rng(0), start.options)
  const { params, constants } = await loadPeft(folder, tuned)
  return { tuned: tunedOf({ ...tuned, constants: { ...tuned.constants, ...constants } }), params, config }
}

/** a PEFT folder in memory */
export const saved = async (tuned: Tuned, params: Tuned['params'], options: SavePeftOptions = {}): Promise<Folder> => {
  const written = blobSinks()
  await savePeft(written.open, tuned, params, options)
  return blobFolder(written.blobs())
}
