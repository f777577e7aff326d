import { fromPeft, loadPeft, type PeftConfig, readPeftConfig } from '@weftjs/lora'
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
import { openModel } from '@weftjs/model/node'
import { fromBnb, fromHalf } from '@weftjs/quant'
import type { Network, Params, Rng } from '@weftjs/spec'
import { bytesOf, rng } from '@weftjs/tensor'
import type { Folder } from '@weftjs/tensor/checkpoint'
import { nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { size, status, statusDone } from './terminal.ts'

/** The folder behind MODEL: `mini`, a folder on disk, or a name on the hub. */
export const openFolder = async (model: string): Promise<Folder> => {
  if (model === 'mini') return miniFolder()
  const folder = await openModel(model, {
    onDownload: ({ file, bytes, of }) => status(`downloading ${file}: ${size(bytes)} of ${size(of)}`),
  })
  statusDone()
  return folder
}

/** A model's network, with progress; quantized folders are read as they are, and 16-bit ones where it is asked for. */
export const openNetwork = async (
  folder: Folder,
  { precision = 'float32' }: { precision?: 'float32' | 'checkpoint' | undefined } = {},
): Promise<Network<TransformerConfig>> => {
  const network = await loadNetwork(folder, {
    packed:
      precision === 'checkpoint'
        ? async (...args) => (await fromBnb(args[0], args[1], args[2])) ?? fromHalf(...args)
        : fromBnb,
    onProgress: ({ tensors, of, bytes }) =>
      status(`loading ${folder.name}: ${tensors} of ${of} tensors, ${size(bytes)}`),
  })
  statusDone()
  return network
}

export const openTokenizer = async (folder: Folder, network: Network<TransformerConfig>): Promise<ModelTokenizer> => {
  const tokenizer = await loadTokenizer(folder)
  checkTokenizer(tokenizer, network.config)
  return tokenizer
}

/** A PEFT adapter on a network, with the values and the config of its folder. */
export const attachPeft = async (
  network: Network<TransformerConfig>,
  path: string,
  random: Rng,
): Promise<{ tuned: Tuned; params: Params; config: PeftConfig }> => {
  const folder = nodeFolder(path)
  const config = await readPeftConfig(folder)
  const start = fromPeft(config, network, sitesOf(network))
  const tuned = attach(start.network, start.attachments, random, start.options)
  const { params, constants } = await loadPeft(folder, tuned)
  return { tuned: tunedOf({ ...tuned, constants: { ...tuned.constants, ...constants } }), params, config }
}

/** The model with a PEFT adapter, or as it is. */
export const tunedFrom = async (
  network: Network<TransformerConfig>,
  adapter: string | undefined,
): Promise<{ tuned: Tuned; params: Params }> =>
  adapter === undefined ? { tuned: attach(network, [], rng(0)), params: {} } : attachPeft(network, adapter, rng(0))

/** bytes of a network's matrices */
export const weigh = ({ weights }: Pick<Network, 'weights'>): number =>
  Object.values(weights).reduce((n, w) => n + bytesOf(w.parts), 0)
