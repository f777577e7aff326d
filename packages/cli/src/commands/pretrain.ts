import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { attach, checkTokenizer, initNetwork, loadTokenizer } from '@weftjs/model'
import { save } from '@weftjs/model/node'
import type { Batch, Config } from '@weftjs/spec'
import { countParams, rng } from '@weftjs/tensor'
import { startBackend } from '../backends.ts'
import { type Command, SHARED } from '../command.ts'
import { Failure } from '../fail.ts'
import { feed, heldOut, tellNotes } from '../feed.ts'
import { openFolder } from '../models.ts'
import { type PretrainFile, type RunFile, readPretrain } from '../runfile.ts'
import { runTraining } from '../session.ts'
import { print, printJson, warn } from '../terminal.ts'
import { versions } from '../versions.ts'

const configOf = async (file: RunFile<PretrainFile>): Promise<Config> => {
  const { config } = file.settings
  if (typeof config !== 'string') return config
  const path = await file.find(config, 'config')
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Config
  } catch (error) {
    throw new Failure(`${path}: not valid JSON (${(error as Error).message})`)
  }
}

/** a whole file as batches, in order */
const onceThrough = async (
  file: RunFile<PretrainFile>,
  path: string | string[],
  model: Parameters<typeof feed>[3],
): Promise<readonly Batch[]> => {
  const { data, train } = file.settings
  const all: Batch[] = []
  const prepared = await feed(file, { ...data, path, shuffle: false, validation: 0 }, train, {
    ...model,
    field: 'validation.path',
    epochs: 1,
  })
  for await (const batch of prepared.batches()) all.push(batch)
  return all
}

export const pretrain: Command = {
  name: 'pretrain',
  summary: 'Trains a model from random weights, as a run file says; writes a Hugging Face folder.',
  args: ['RUN.yaml'],
  options: {
    out: { value: 'DIR', help: 'folder for results, in place of the run file\'s "out"' },
    backend: SHARED.backend,
    resume: { help: 'go on from the last checkpoint in the folder' },
    set: { value: 'PATH=VALUE', many: true, help: 'change a field of the run file; may be repeated' },
    json: { help: 'print the outcome as JSON' },
  },
  examples: ['weft pretrain tools/mini/mini.yaml --set data.path=books.txt'],
  run: async ({ args: [path], text, flag, all }) => {
    const file = await readPretrain(path!, all('set'))
    const { settings } = file
    const out = resolve(text('out') ?? settings.out)
    const backend = await startBackend(text('backend'))
    const where = settings.tokenizer === 'mini' ? 'mini' : await file.find(settings.tokenizer, 'tokenizer')
    const folder = await openFolder(where)
    const tokenizer = await loadTokenizer(folder)
    const random = rng(settings.train.seed)
    const network = initNetwork(await configOf(file), random.fork('init'))
    checkTokenizer(tokenizer, network.config)
    const tuned = attach(network, [], random, { train: '**' })
    const model = { tokenizer, vocabulary: network.config.vocabulary, rng: random.fork('data') }
    const data = await feed(file, settings.data, settings.train, model)
    const validation = settings.validation
      ? await onceThrough(file, settings.validation.path, model)
      : settings.data.validation
        ? await heldOut(data)
        : []
    warn(`training ${countParams(tuned.params).toLocaleString('en')} parameters from random weights`)
    const outcome = await runTraining({
      tuned,
      settings: settings.train,
      out,
      backend,
      resume: flag('resume'),
      record: { command: 'pretrain', settings, versions },
      batches: (skip) => data.batches({ skip }),
      validation,
      rng: random,
      decays: (name) => !/norm|\.bias$/.test(name),
    })
    tellNotes(data.notes)
    if (outcome.interrupted) {
      warn(
        `stopped after step ${outcome.step} of ${settings.train.steps}; go on with: weft pretrain ${path} --out ${out} --resume`,
      )
      return 130
    }
    const files = await save(tuned.fold(outcome.params), out, { from: folder, dtype: settings.dtype })
    const report = { out, steps: outcome.step, loss: outcome.loss, validation: outcome.validation, files }
    if (flag('json')) printJson(report)
    else
      print(
        `${out}: ${files.join(', ')}; loss ${outcome.loss?.toFixed(4)}${outcome.validation === undefined ? '' : `, held out ${outcome.validation.toFixed(4)}`}`,
      )
    return 0
  },
}
