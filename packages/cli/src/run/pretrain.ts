import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { attach, checkTokenizer, initNetwork, loadTokenizer } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import type { Batch, Config } from '@weftjs/spec'
import { countParams, rng } from '@weftjs/tensor'
import { checkBackend, startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure } from '../fail.ts'
import { type FeedModel, feed, kept } from '../feed.ts'
import { openFolder } from '../models.ts'
import { type RunFile, readPretrain } from '../runfile.ts'
import type { PretrainFile } from '../schema.ts'
import { checkOut } from '../session.ts'
import { warn } from '../terminal.ts'
import { trainAndSave } from './training.ts'

const configOf = async (file: RunFile<PretrainFile>): Promise<Config> => {
  const { config } = file.settings
  if (typeof config !== 'string') return config
  const path = await file.find(config, 'config')
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Config
  } catch (error) {
    throw new Failure(`${path}: not valid JSON (${(error as Error).message}); correct it`)
  }
}

/** a whole file as batches, in order */
const onceThrough = async (
  file: RunFile<PretrainFile>,
  path: string | string[],
  model: FeedModel,
): Promise<readonly Batch[]> => {
  const { data, train } = file.settings
  const own = { ...data, path, shuffle: false, validation: 0 }
  const prepared = await feed(file, own, train, { ...model, field: 'validation.path', epochs: 1 })
  try {
    return await kept(prepared.batches())
  } finally {
    await prepared.close()
  }
}

export const pretrain = async (call: Call): Promise<number> => {
  const { args, text, flag, all } = call
  checkBackend(text('backend'))
  const file = await readPretrain(args[0]!, all('set'), text('out'))
  const { settings } = file
  const out = resolve(settings.out)
  const [resume, restart] = [flag('resume'), flag('restart')]
  const where = settings.tokenizer === 'mini' ? 'mini' : await file.find(settings.tokenizer, 'tokenizer')
  const source = await configOf(file)
  await checkOut(out, { resume, restart })
  const backend = await startBackend(text('backend'))
  const folder = await openFolder(where)
  const tokenizer = await loadTokenizer(folder)
  const random = rng(settings.train.seed)
  const network = initNetwork(source, random.fork('init'))
  checkTokenizer(tokenizer, network.config)
  const tuned = attach(network, [], random, { train: '**' })
  const model = { tokenizer, config: network.config, rng: random.fork('data') }
  const data = await feed(file, settings.data, settings.train, model)
  const validation = settings.validation
    ? await onceThrough(file, settings.validation.path, model)
    : settings.data.validation
      ? await kept(data.validation())
      : []
  warn(`training ${countParams(tuned.params).toLocaleString('en')} parameters from random weights`)
  return trainAndSave(
    call,
    {
      command: 'pretrain',
      tuned,
      identity: { settings, bytes: data.bytes },
      out,
      backend,
      resume,
      restart,
      profile: flag('profile'),
      batches: (skip) => data.batches({ skip }),
      validation,
      decays: (name) => !/norm|\.bias$/.test(name),
    },
    data,
    ({ params }) => save(tuned.fold(params), out, { from: folder, dtype: settings.dtype }),
  )
}
