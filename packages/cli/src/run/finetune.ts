import { resolve } from 'node:path'
import { type LoraOptions, lora, type PeftConfig, savePeft } from '@weftjs/lora'
import { type Attachment, attach, type TransformerConfig, type Tuned } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import { quantize as pack } from '@weftjs/quant'
import type { Network, Params } from '@weftjs/spec'
import { countParams, rng } from '@weftjs/tensor'
import { fileSink } from '@weftjs/tensor/checkpoint/file'
import { startBackend } from '../backends.ts'
import { codecOf } from '../codecs.ts'
import type { Call } from '../command.ts'
import { Failure } from '../fail.ts'
import { feed, kept } from '../feed.ts'
import { attachPeft, openFolder, openNetwork, openTokenizer, weigh } from '../models.ts'
import { type RunFile, readFinetune } from '../runfile.ts'
import type { AdapterSettings, FinetuneFile } from '../schema.ts'
import { checkOut } from '../session.ts'
import { size, status, statusDone, warn } from '../terminal.ts'
import { trainAndSave } from './training.ts'

/** the methods that a run file can name */
const METHODS: Readonly<Record<string, (settings: AdapterSettings) => Attachment>> = {
  lora: ({ at, rank, alpha, rslora, dropout, init, rank_pattern, alpha_pattern }) => {
    const given = { rank, alpha, rslora, dropout, init, rankPattern: rank_pattern, alphaPattern: alpha_pattern }
    const options = Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)) as LoraOptions
    return { adapter: lora(options), at }
  },
}

interface Attached {
  readonly tuned: Tuned
  /** of the adapter that this run goes on from */
  readonly config?: PeftConfig
}

const attachAll = async (file: RunFile<FinetuneFile>, network: Network<TransformerConfig>): Promise<Attached> => {
  const { adapters, trains, train } = file.settings
  const random = rng(train.seed).fork('adapters')
  const [first] = adapters
  if (first && 'from' in first) {
    const found = await attachPeft(network, await file.find(first.from, 'adapters.0.from'), random)
    return { tuned: { ...found.tuned, params: found.params }, config: found.config }
  }
  const attachments = (adapters as AdapterSettings[]).map((settings, i) => {
    if (!Object.hasOwn(METHODS, settings.method))
      throw new Failure(
        `adapters.${i}.method: there is no '${settings.method}'; there are ${Object.keys(METHODS).join(', ')}`,
      )
    return METHODS[settings.method]!(settings)
  })
  return { tuned: attach(network, attachments, random, trains === undefined ? {} : { train: trains }) }
}

/** the frozen matrices in few bits, where the run file asks for it */
const packBase = async (
  network: Network<TransformerConfig>,
  base: FinetuneFile['base'],
): Promise<Network<TransformerConfig>> => {
  if (base?.codec === undefined) return network
  const before = weigh(network)
  const packed = await pack(network, codecOf(base.codec, 'base.codec'), {
    consume: true,
    ...(base.at !== undefined && { at: base.at }),
    onProgress: ({ name, weights, of }) => status(`packing ${name}, ${weights} of ${of} matrices`),
  })
  statusDone()
  warn(`base in ${base.codec}: weights ${size(before)} -> ${size(weigh(packed))}`)
  return packed
}

export const finetune = async (call: Call): Promise<number> => {
  const { args, text, flag, all } = call
  const file = await readFinetune(args[0]!, all('set'), text('out'))
  const { settings } = file
  const out = resolve(settings.out)
  const [resume, restart] = [flag('resume'), flag('restart')]
  if (settings.base?.codec !== undefined) codecOf(settings.base.codec, 'base.codec')
  const model = await modelOf(file)
  await checkOut(out, { resume, restart })
  const backend = await startBackend(text('backend'))
  const folder = await openFolder(model)
  const network = await packBase(await openNetwork(folder, settings.base), settings.base)
  const bare = settings.data.format === 'ids' && !(await folder.has('tokenizer.json'))
  const tokenizer = bare ? undefined : await openTokenizer(folder, network)
  const { tuned, config } = await attachAll(file, network)
  const random = rng(settings.train.seed).fork('data')
  const data = await feed(file, settings.data, settings.train, { tokenizer, config: network.config, rng: random })
  warn(
    `training ${countParams(tuned.params).toLocaleString('en')} parameters in ${Object.keys(tuned.params).length} tensors of ${settings.model}`,
  )
  return trainAndSave(
    call,
    {
      command: 'finetune',
      tuned,
      identity: { settings, bytes: data.bytes },
      out,
      backend,
      resume,
      restart,
      profile: flag('profile'),
      batches: (skip) => data.batches({ skip }),
      validation: settings.data.validation ? await kept(data.validation()) : [],
    },
    data,
    ({ params, tuned }) =>
      tuned.bound.length
        ? saveAdapter(tuned, params, out, { base: settings.model, ...(config && { config }) })
        : save(tuned.fold(params), out, { from: folder }),
  )
}

const saveAdapter = async (
  tuned: Tuned,
  params: Params,
  out: string,
  about: { base: string; config?: PeftConfig },
): Promise<string[]> => {
  await savePeft((name) => fileSink(`${out}/${name}`), tuned, params, about)
  return ['adapter_model.safetensors', 'adapter_config.json']
}

/** MODEL of a run file: `mini` and hub names as they are, a folder by its path */
const modelOf = async (file: RunFile<FinetuneFile>): Promise<string> => {
  const { model } = file.settings
  if (model === 'mini') return model
  return file.find(model, 'model').catch((error) => {
    if (/^[\w-][\w.-]*\/[\w.-]+(@.+)?$/.test(model)) return model
    throw error
  })
}
