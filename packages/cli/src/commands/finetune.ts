import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fromPeft, type LoraOptions, loadPeft, lora, readPeftConfig, savePeft } from '@weftjs/lora'
import { type Attachment, attach, type TransformerConfig, type Tuned } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import { quantize as pack } from '@weftjs/quant'
import type { Network, Params } from '@weftjs/spec'
import { countParams, rng } from '@weftjs/tensor'
import { fileSink, nodeFolder } from '@weftjs/tensor/checkpoint/file'
import { startBackend } from '../backends.ts'
import { codecOf } from '../codecs.ts'
import { type Command, SHARED } from '../command.ts'
import { Failure, usage } from '../fail.ts'
import { feed, heldOut, tellNotes } from '../feed.ts'
import { openFolder, openNetwork, openTokenizer } from '../models.ts'
import { type AdapterSettings, type FinetuneFile, type RunFile, readFinetune } from '../runfile.ts'
import { runTraining } from '../session.ts'
import { print, printJson, warn } from '../terminal.ts'
import { versions } from '../versions.ts'

/** the methods that a run file can name */
const METHODS: Readonly<Record<string, (settings: AdapterSettings) => Attachment>> = {
  lora: ({ at, rank, alpha, rslora, dropout, init, rank_pattern, alpha_pattern }) => {
    const given = { rank, alpha, rslora, dropout, init, rankPattern: rank_pattern, alphaPattern: alpha_pattern }
    const options = Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined)) as LoraOptions
    return { adapter: lora(options), at }
  },
}

interface Prepared {
  readonly tuned: Tuned
  /** values to begin with, where they are not the fresh ones */
  readonly params: Params
}

const attachAll = async (file: RunFile<FinetuneFile>, network: Network<TransformerConfig>): Promise<Prepared> => {
  const { adapters, trains, train } = file.settings
  if (!adapters.length && trains === undefined)
    throw new Failure('adapters: nothing would train; add an adapter, or name tensors in "trains"')
  const random = rng(train.seed).fork('adapters')
  const old = adapters.filter((a) => 'from' in a)
  if (old.length) {
    if (adapters.length > 1 || trains !== undefined)
      throw new Failure('adapters: { from } goes on from one PEFT adapter and stands alone')
    const folder = nodeFolder(await file.find(old[0]!.from, 'adapters.0.from'))
    const bare = attach(network, [], random)
    const start = fromPeft(await readPeftConfig(folder), network, bare.sites)
    const tuned = attach(start.network, start.attachments, random, start.options)
    return { tuned, params: await loadPeft(folder, tuned) }
  }
  const attachments = adapters.map((a, i) => {
    const settings = a as AdapterSettings
    if (!Object.hasOwn(METHODS, settings.method))
      throw new Failure(
        `adapters.${i}.method: there is no '${settings.method}'; there are ${Object.keys(METHODS).join(', ')}`,
      )
    return METHODS[settings.method]!(settings)
  })
  const tuned = attach(network, attachments, random, trains === undefined ? {} : { train: trains })
  return { tuned, params: tuned.params }
}

export const finetune: Command = {
  name: 'finetune',
  summary: 'Trains adapters on a model, as a run file says; writes PEFT files, run.json and log.jsonl.',
  args: ['RUN.yaml'],
  options: {
    out: { value: 'DIR', help: 'folder for results, in place of the run file\'s "out"' },
    backend: SHARED.backend,
    resume: { help: 'go on from the last checkpoint in the folder' },
    set: {
      value: 'PATH=VALUE',
      many: true,
      help: 'change a field of the run file, e.g. train.steps=50; may be repeated',
    },
    json: { help: 'print the outcome as JSON' },
  },
  examples: [
    'weft finetune examples/voice.yaml',
    'weft finetune run.yaml --set data.path=mine.txt --set train.lr=1e-3 --out runs/mine',
  ],
  run: async ({ args: [path], text, flag, all }) => {
    const file = await readFinetune(path!, all('set'))
    const { settings } = file
    const out = resolve(text('out') ?? settings.out)
    if (!out) throw usage('no folder for the results; give --out')
    const codec = settings.base && codecOf(settings.base.codec, 'base.codec')
    const backend = await startBackend(text('backend'))
    const folder = await openFolder(await modelOf(file))
    const dense = await openNetwork(folder)
    const network = codec
      ? await pack(dense, codec, { consume: true, ...(settings.base?.at !== undefined && { at: settings.base.at }) })
      : dense
    const tokenizer =
      settings.data.format === 'ids' && !(await folder.has('tokenizer.json'))
        ? undefined
        : await openTokenizer(folder, network)
    const { tuned, params } = await attachAll(file, network)
    const random = rng(settings.train.seed).fork('data')
    const data = await feed(file, settings.data, settings.train, {
      tokenizer,
      vocabulary: network.config.vocabulary,
      rng: random,
    })
    warn(
      `training ${countParams(tuned.params).toLocaleString('en')} parameters in ${Object.keys(tuned.params).length} tensors of ${settings.model}`,
    )
    const started = params === tuned.params ? tuned : { ...tuned, params }
    const outcome = await runTraining({
      tuned: started,
      settings: settings.train,
      out,
      backend,
      resume: flag('resume'),
      record: { command: 'finetune', settings, versions },
      batches: (skip) => data.batches({ skip }),
      validation: settings.data.validation ? await heldOut(data) : [],
      rng: random,
    })
    tellNotes(data.notes)
    if (outcome.interrupted) {
      warn(
        `stopped after step ${outcome.step} of ${settings.train.steps}; go on with: weft finetune ${path} --out ${out} --resume`,
      )
      return 130
    }
    const files = tuned.bound.length
      ? await saveAdapter(tuned, outcome.params, out, settings.model)
      : await save(tuned.fold(outcome.params), out, { from: folder })
    const report = { out, steps: outcome.step, loss: outcome.loss, validation: outcome.validation, files }
    if (flag('json')) printJson(report)
    else
      print(
        `${out}: ${files.join(', ')}; loss ${outcome.loss?.toFixed(4)}${outcome.validation === undefined ? '' : `, held out ${outcome.validation.toFixed(4)}`}`,
      )
    return 0
  },
}

const saveAdapter = async (tuned: Tuned, params: Params, out: string, base: string): Promise<string[]> => {
  await mkdir(out, { recursive: true })
  await savePeft((name) => fileSink(join(out, name)), tuned, params, { base })
  return ['adapter_model.safetensors', 'adapter_config.json']
}

/** MODEL of a run file: `mini` and hub names as they are, a folder by its path */
const modelOf = async (file: RunFile<FinetuneFile>): Promise<string> => {
  const { model } = file.settings
  if (model === 'mini') return model
  return file.find(model, 'model').catch((error) => {
    if (/^[\w.-]+\/[\w.-]+(@.+)?$/.test(model)) return model
    throw error
  })
}
