import type { Network, Site, Tensor2D } from '@weftjs/spec'
import { keep, tensor, tidy } from '@weftjs/tensor'
import { CheckpointError, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import type { PeftConfig } from './config.ts'
import { PEFT_CONFIG, PEFT_PREFIX, PEFT_STEM } from './names.ts'

type Ranges = readonly (readonly [start: number, end: number])[]

/** The layers that a config's base is made of; undefined where it is as it is. @throws Error for what is no list of ranges */
export const replicationOf = ({ layer_replication: ranges }: Readonly<Record<string, unknown>>): Ranges | undefined => {
  if (ranges === undefined || ranges === null || (Array.isArray(ranges) && !ranges.length)) return undefined
  const isRange = (r: unknown): boolean =>
    Array.isArray(r) && r.length === 2 && r.every((n) => Number.isInteger(n) && n >= 0) && r[0] < r[1]
  if (!Array.isArray(ranges) || !ranges.every(isRange))
    throw new Error(
      `${PEFT_CONFIG}: layer_replication must be a list of ranges [start, end) of layers, found ${JSON.stringify(ranges)}`,
    )
  return ranges as Ranges
}

const layersOf = (ranges: Ranges | undefined): string =>
  ranges?.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i)).join() ?? ''

/** the ranges that a network's layers are, where `replicateLayers` made it */
export const replicatedOf = ({ config }: Network<object>): Ranges | undefined =>
  (config as { replicated?: Ranges }).replicated

/** are a network's layers those that a config says? */
export const sameLayers = (config: PeftConfig, network: Network<object>): boolean =>
  layersOf(replicationOf(config)) === layersOf(replicatedOf(network))

/** @throws Error that says how, where a network has yet to be made deeper, or has been and should not */
export const mustHaveLayers = (config: PeftConfig, network: Network<object>): void => {
  if (sameLayers(config, network)) return
  const wanted = replicationOf(config)
  throw new Error(
    wanted
      ? `${PEFT_CONFIG}: layer_replication is ${JSON.stringify(wanted)}, and this network's layers are others; attach to replicateLayers(network, ${JSON.stringify(wanted)}), or to what peftBase gives`
      : `${PEFT_CONFIG}: has no layer_replication, and this network's layers are ${JSON.stringify(replicatedOf(network))} of another's; attach to that one`,
  )
}

/** What makes another network of one; all of it is in @weftjs/model. */
export interface Surgeries<N extends Network<object>> {
  sites(network: N): readonly Site[]
  replicate?(network: N, ranges: Ranges): N
  resize?(network: N, rows: number, tables: { readonly embed?: Tensor2D; readonly head?: Tensor2D }): N
}

const given = <T>(surgery: T | undefined, what: string, remedy: string): T => {
  if (surgery) return surgery
  throw new Error(`${what}; pass ${remedy} of @weftjs/model to peftBase`)
}

/**
 * The base as the adapter of a folder needs it: its layers replicated as `layer_replication` says, its embedding and head
 * with as many rows as the folder has, where it brings those of a larger vocabulary (PEFT's save_embedding_layers, or
 * modules_to_save): `peftBase(folder, config, network, { sites: sitesOf, replicate: replicateLayers, resize: resizeVocabulary })`.
 * The network itself where it is right already.
 * @throws Error that names what has to be passed, CheckpointError for a table of another width
 */
export const peftBase = async <N extends Network<object>>(
  folder: Folder,
  config: PeftConfig,
  network: N,
  { sites, replicate, resize }: Surgeries<N>,
): Promise<N> => {
  const ranges = replicationOf(config)
  const deep =
    ranges && !sameLayers(config, network)
      ? given(
          replicate,
          `${PEFT_CONFIG}: layer_replication is ${JSON.stringify(ranges)}`,
          'replicateLayers',
        )(network, ranges)
      : network
  const checkpoint = await openCheckpoint(folder, { stem: PEFT_STEM })
  try {
    const tables: Record<string, Tensor2D> = {}
    for (const { name, kind, module, weight } of sites(deep)) {
      if ((kind !== 'embed' && kind !== 'head') || module === undefined || !weight) continue
      const key = ['weight', 'base_layer.weight']
        .map((k) => `${PEFT_PREFIX}${module}.${k}`)
        .find((k) => checkpoint.has(k))
      if (key === undefined) continue
      const { shape } = checkpoint.entry(key)
      const [rows, width] = weight.shape
      if (shape.length === 2 && shape[0] === rows) continue
      if (shape.length !== 2 || shape[1] !== width)
        throw new CheckpointError(`has shape [${shape}], and ${name} is [${rows},${width}]: another base`, {
          file: checkpoint.name,
          tensor: key,
        })
      const values = await checkpoint.floats(key)
      tables[name] = tidy(() => keep(tensor(values, [...shape] as [number, number]) as Tensor2D))
    }
    const rows = Object.values(tables)[0]?.shape[0]
    if (rows === undefined) return deep
    return given(resize, `${folder.name}: its vocabulary has ${rows} rows`, 'resizeVocabulary')(deep, rows, tables)
  } finally {
    await checkpoint.close()
  }
}
