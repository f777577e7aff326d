/**
 * Models on disk and from the hub, for Node.
 * @packageDocumentation
 */
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Network } from '@weftjs/spec'
import { CheckpointError, type Folder } from '@weftjs/tensor/checkpoint'
import { fileSink, fromFile, nodeFolder, saveCheckpoint } from '@weftjs/tensor/checkpoint/file'
import type { CalibrationCache } from './calibration-file.ts'
import type { TransformerConfig } from './config.ts'
import { type HubOptions, neededOf, parseHubName, snapshot } from './hub.ts'
import { type LoadOptions, loadNetwork } from './load.ts'
import { type Repacked, type Repacking, type RepackOptions, repacked } from './repack.ts'
import { checkpointOf, type layOut, type SaveOptions, textOf } from './save.ts'

export { type HubOptions, parseHubName, snapshot } from './hub.ts'

/** A folder on disk, or a model of the hub by `org/name` or `org/name@revision`. @throws CheckpointError for neither */
export const openModel = async (where: string, options: HubOptions = {}): Promise<Folder> => {
  const found = await stat(where).catch(() => undefined)
  if (found?.isDirectory()) return nodeFolder(where)
  if (found)
    throw new CheckpointError('a file, not a folder; name the folder that has config.json in it', { file: where })
  if (parseHubName(where)) return nodeFolder(await snapshot(where, options))
  throw new CheckpointError(
    'no such folder, and no name on the hub, which has the form org/name or org/name@revision',
    {
      file: where,
    },
  )
}

/** A model and the folder it lies in, for its tokenizer and generation config. */
export const load = async (
  where: string,
  options: LoadOptions & HubOptions = {},
): Promise<{ network: Network<TransformerConfig>; folder: Folder }> => {
  const folder = await openModel(where, options)
  return { network: await loadNetwork(folder, options), folder }
}

export interface SaveFolderOptions extends SaveOptions {
  /** where the model came from: its tokenizer, chat template and generation config are copied */
  readonly from?: Folder
}

/**
 * Writes a network as a Hugging Face folder. The checkpoint is complete under temporary names before anything takes its
 * own, and what fails leaves the folder as it was.
 * @returns the names written
 */
export const save = async (
  network: Network<TransformerConfig>,
  path: string,
  { maxShardBytes, from, ...options }: SaveFolderOptions = {},
): Promise<string[]> =>
  writeFolder(path, checkpointOf(network, options), from, { ...(maxShardBytes !== undefined && { maxShardBytes }) })

/**
 * Packs matrices of a folder's model on their way into another folder, with its tokenizer and what else `save` copies: a
 * model of any size in the memory of its largest matrix, since each tensor is read when it is written. What fails leaves
 * nothing behind.
 *
 *     await repack(nodeFolder('model'), streaming(nf4()), 'model-nf4')
 *
 * @returns the names written, and the network as `repacked` gives it
 */
export const repack = async (
  folder: Folder,
  how: Repacking,
  path: string,
  { maxShardBytes, ...options }: RepackOptions = {},
): Promise<{ files: string[] } & Pick<Repacked, 'network' | 'packed'>> => {
  const { network, packed, close, ...made } = await repacked(folder, how, options)
  try {
    const files = await writeFolder(path, made, folder, { ...(maxShardBytes !== undefined && { maxShardBytes }) })
    return { files, network, packed }
  } finally {
    await close()
  }
}

/** checkpoint and config.json, and of `from` what a model has besides */
const writeFolder = async (
  path: string,
  { config, tensors }: ReturnType<typeof layOut>,
  from: Folder | undefined,
  options: Pick<SaveOptions, 'maxShardBytes'>,
): Promise<string[]> => {
  const rest = new Map([['config.json', textOf(config)]])
  for (const file of neededOf((await from?.list?.()) ?? []))
    if (file !== 'config.json' && !file.startsWith('model')) {
      const source = await from!.open(file)
      rest.set(file, await source.read(0, source.size))
      await source.close?.()
    }
  await mkdir(path, { recursive: true })
  const files = await saveCheckpoint(path, tensors, { metadata: { format: 'pt' }, ...options })
  for (const [file, bytes] of rest) await replace(join(path, file), bytes)
  return [...files, ...rest.keys()]
}

/** A file that keeps what `calibrate` gathers: `calibrate(network, batches, { statistics, cache: calibrationFile(path) })` */
export const calibrationFile = (path: string): CalibrationCache => ({
  open: async () => ((await stat(path).catch(() => undefined)) ? fromFile(path) : undefined),
  sink: async () => {
    await mkdir(dirname(path), { recursive: true })
    return fileSink(path)
  },
})

const replace = async (path: string, bytes: Uint8Array): Promise<void> => {
  const part = join(dirname(path), `.${process.pid}.part`)
  try {
    await writeFile(part, bytes)
    await rename(part, path)
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
}
