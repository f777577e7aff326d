import { mkdir, readFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { PEFT_CONFIG, savePeft, scaleOf } from '@weftjs/lora'
import {
  type Attachment,
  attachAsync,
  type Calibrated,
  calibrate,
  deleteAdapters,
  disposeSeen,
  estimateMemory,
  matcher,
  sitesOf,
  type TransformerConfig,
  type Tuned,
} from '@weftjs/model'
import { calibrationFile, save } from '@weftjs/model/node'
import type { Batch, Network, Params, Site } from '@weftjs/spec'
import { countParams, keepParams, mul, rng, selectParams, type Tensor, tidy } from '@weftjs/tensor'
import type { Folder, Sink } from '@weftjs/tensor/checkpoint'
import { fileSink } from '@weftjs/tensor/checkpoint/file'
import { tensorsOf } from '@weftjs/weight'
import { type Given, needsOriginal, type Prepared, prepareAdapter, type Source } from '../adapters.ts'
import { checkBackend, startBackend } from '../backends.ts'
import type { Call } from '../command.ts'
import { Failure } from '../fail.ts'
import { type Feed, feed, kept } from '../feed.ts'
import { writeJson } from '../files.ts'
import { type Opened, openAdapters, openFolder, openNetwork, openTokenizer, PACKAGE, weigh } from '../models.ts'
import { disposeOnly, openFor, planOf } from '../pack.ts'
import { type RunFile, readFinetune } from '../runfile.ts'
import type { AdapterSettings, FinetuneFile } from '../schema.ts'
import { checkOut, transformOf } from '../session.ts'
import { saveStart } from '../start.ts'
import { counted, print, printJson, size, status, statusDone, warn } from '../terminal.ts'
import { trainAndSave } from './training.ts'

interface Attached {
  readonly tuned: Tuned
  /** of the adapters that this run goes on from */
  readonly from?: Opened['adapters']
  /** where the methods come from that are not ours: by the names of attachments */
  readonly packages: Readonly<Record<string, string>>
}

type Own = RunFile<FinetuneFile>
/** adapters that are made anew, their methods loaded and their options known to be theirs */
const prepareAll = async (file: Own): Promise<readonly Prepared[]> => {
  const prepared: Prepared[] = []
  const said: string[] = []
  for (const [i, settings] of file.settings.adapters.entries()) {
    if ('from' in settings) continue
    try {
      prepared.push(await prepareAdapter(settings as AdapterSettings, i, file.folders))
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      said.push(...error.message.split('\n').map((line) => `${file.path}: ${line}`))
    }
  }
  if (said.length) throw new Failure(said.join('\n'))
  return prepared
}

/** what a calibration pass sees where adapters start from one, over the first batches of the data */
const seenBy = async (
  file: Own,
  network: Network<TransformerConfig>,
  attachments: readonly Attachment[],
  { out, data }: { out: string; data: Feed },
): Promise<Record<string, Calibrated> | undefined> => {
  const wanting = attachments.filter((a) => a.adapter.calibrates?.length)
  if (!wanting.length) return undefined
  const { batches = 32, cache } = file.settings.calibrate ?? {}
  const statistics = [...new Set(wanting.flatMap((a) => a.adapter.calibrates!))]
  const tests = wanting.map((a) => matcher(a.at))
  const sees = (site: Site): boolean =>
    site.weight !== undefined && site.kind !== 'embed' && tests.some((test) => test(site))
  if (!sitesOf(network).some(sees)) return undefined // the adapter itself says what is wrong there
  const some = async function* (): AsyncGenerator<Batch> {
    let n = 0
    for await (const batch of data.batches({})) {
      yield batch
      if (++n === batches) return
    }
  }
  const path = cache === undefined ? join(out, 'calibration.safetensors') : resolve(cache)
  warn(`calibrating (${statistics.join(', ')}) on up to ${batches} batches, kept in ${path}`)
  const seen = await calibrate(network, some(), {
    statistics,
    at: sees,
    cache: calibrationFile(path),
    onProgress: ({ batches: done, rows }) =>
      status(`${counted(done, batches)}  calibrating, ${rows} tokens`, done === batches),
  })
  statusDone()
  return seen
}

/** a start that makes up for packing does nothing where nothing is packed */
const mustBePacked = ({ path, settings }: Own, network: Network<object>, prepared: readonly Prepared[]): void => {
  const odd = prepared.findIndex((p) => p.original !== undefined)
  if (odd < 0 || Object.values(network.weights).some((w) => w.codec)) return
  throw new Failure(
    `${path}: adapters.${odd}.original: no matrix of ${settings.model} is packed, so that nothing was lost; set base.codec, or take a model that weft quantize has made`,
  )
}

const attachAll = async (
  file: Own,
  network: Network<TransformerConfig>,
  prepared: readonly Prepared[],
  given: Given & { out: string; data: Feed },
): Promise<Attached> => {
  const { adapters, trains, train } = file.settings
  const random = rng(train.seed).fork('adapters')
  const [first] = adapters
  if (first && 'from' in first) {
    const path = await file.find((first as { from: string }).from, 'adapters.0.from')
    const found = await openAdapters(network, [path], random)
    const packages = found.adapters.flatMap(({ name, path, config }) =>
      typeof config[PACKAGE] === 'string' ? [[name, elsewhere(config[PACKAGE], path)] as const] : [],
    )
    return { tuned: found.tuned, from: found.adapters, packages: Object.fromEntries(packages) }
  }
  const attachments: (Attachment & { readonly source: Source })[] = []
  const originals: Network<TransformerConfig>[] = []
  for (const [i, p] of prepared.entries()) {
    const path = p.original && (await modelOf(file, p.original, `adapters.${i}.original`))
    const original = path ? await openNetwork(await openFolder(path)) : given.original
    if (path) originals.push(original as Network<TransformerConfig>)
    attachments.push(p.make({ ...(original && { original }) }))
  }
  const seen = await seenBy(file, network, attachments, given)
  const tuned = await attachAsync(network, attachments, random, {
    ...(trains !== undefined && { train: trains }),
    ...(seen && { seen }),
    reads: [...originals, ...(given.original ? [given.original] : [])].flatMap(tensorsOf),
  })
  if (seen) disposeSeen(seen)
  for (const original of originals) disposeOnly(original, tuned.network)
  for (const [i, { adapter, name = adapter.name }] of attachments.entries())
    if (!tuned.bound.some((b) => b.name === name))
      throw new Failure(
        `${file.path}: adapters.${i}.at: '${adapter.name}' has nothing to do at any of the places that match; narrow or widen it`,
      )
  const packages = attachments.flatMap(({ adapter, name = adapter.name, source }, i) =>
    source.file === undefined
      ? []
      : [[name, elsewhere((adapters[i] as AdapterSettings).method, file.folders[0]!)] as const],
  )
  return { tuned, packages: Object.fromEntries(packages) }
}
/** a package by its name, a file by its whole path */
const elsewhere = (name: string, folder: string): string => (/^\.{1,2}\//.test(name) ? resolve(folder, name) : name)

/** gives the data up where what comes after it fails */
const closing =
  (data: Feed): ((error: unknown) => Promise<never>) =>
  async (error) => {
    await data.close()
    throw error
  }

/** the first batches of the data, for formats that look at them */
const firstOf = async (data: Feed, n = 32): Promise<Batch[]> => {
  const found: Batch[] = []
  for await (const batch of data.batches({})) if (found.push(batch) >= n) break
  return found
}

export const finetune = async (call: Call): Promise<number> => {
  const { args, text, flag, all } = call
  checkBackend(text('backend'))
  const file = await readFinetune(args[0]!, all('set'), text('out'))
  const { settings } = file
  const out = resolve(settings.out)
  const [resume, restart] = [flag('resume'), flag('restart')]
  const plan = settings.base?.codec === undefined ? undefined : planOf(settings.base.codec, 'base.codec')
  const model = await modelOf(file, settings.model, 'model')
  const prepared = await prepareAll(file)
  const unpacked = settings.base?.codec === undefined ? needsOriginal(settings.adapters) : undefined
  if (unpacked !== undefined)
    throw new Failure(
      `${file.path}: adapters.${unpacked}.method: '${(settings.adapters[unpacked] as AdapterSettings).method}' makes up for what packing loses; set base.codec, or name the model before it was packed as adapters.${unpacked}.original`,
    )
  if (!flag('estimate')) await checkOut(out, { resume, restart })
  const backend = await startBackend(text('backend'))
  const folder = await openFolder(model)
  const keep = needsOriginal(settings.adapters) !== undefined
  const opened = await openFor(folder, plan, { ...settings.base, keep })
  const original = opened.network
  const bare = settings.data.format === 'ids' && !(await folder.has('tokenizer.json'))
  const tokenizer = bare ? undefined : await openTokenizer(folder, original)
  const random = rng(settings.train.seed).fork('data')
  const data = await feed(file, settings.data, settings.train, { tokenizer, config: original.config, rng: random })
  const batches = (): Promise<Batch[]> => firstOf(data, settings.calibrate?.batches)
  const network = await opened.pack({ batches }).catch(closing(data))
  if (plan) warn(`base in ${plan.name}: weights ${size(opened.before)} -> ${size(weigh(network))}`)
  mustBePacked(file, network, prepared)
  const given = { out, data, ...(keep && { original }) }
  const attached = await attachAll(file, network, prepared, given).catch(closing(data))
  const { tuned } = attached
  if (keep) disposeOnly(original, network)
  warn(
    `training ${countParams(tuned.params).toLocaleString('en')} parameters in ${Object.keys(tuned.params).length} tensors of ${settings.model}`,
  )
  // a start that has changed the base is needed once more when the adapter is saved
  const start = tidy(() =>
    keepParams(
      Object.fromEntries(
        tuned.bound.flatMap((b) => (b.base ? b.keys.flatMap((k) => startOf(tuned, `${b.prefix}.${k}`)) : [])),
      ),
    ),
  )
  const factor = settings.train.optimizer === 'lora_fa' ? await factorsOf(tuned) : undefined
  if (flag('estimate')) {
    const { batch, length, accumulate, recompute = false } = settings.train
    const transform = transformOf(settings.train, factor && { factor })
    const about = { transform, batch: [batch, length] as const, accumulate, recompute, consume: true }
    const estimated = await estimateMemory(tuned, about).finally(() => data.close())
    if (flag('json')) printJson(estimated)
    else {
      const { bytes, network, adapters, run } = estimated
      print(
        `${size(bytes)} at the peak: ${size(network)} of weights, ${size(adapters)} of adapters, ${size(run)} of optimizer, gradients and activations`,
      )
    }
    return 0
  }
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
      ...(factor && { factor }),
      batches: (skip) => data.batches({ skip }),
      validation: settings.data.validation ? await kept(data.validation()) : [],
    },
    data,
    ({ params, tuned }) =>
      tuned.bound.length
        ? saveAdapters(tuned, params, out, { base: settings.model, model: folder, start, ...attached })
        : save(tuned.fold(params), out, { from: folder }),
  )
}

/** s of each LoRA that adds s·B·A, by the name of its B. @throws Failure where nothing is of that kind */
const factorsOf = async ({ bound, params }: Tuned): Promise<(name: string) => number> => {
  const found = new Map<string, number>()
  for (const b of bound) {
    const state = Object.fromEntries(
      b.keys.flatMap((k) => (params[`${b.prefix}.${k}`] ? [[k, params[`${b.prefix}.${k}`]!]] : [])),
    )
    const scale = await scaleOf(b, state)
    if (scale) found.set(`${b.prefix}.b`, scale)
  }
  if (!found.size)
    throw new Failure(
      'train.optimizer: lora_fa is for LoRA, and no adapter here adds a product of two factors; choose adamw',
    )
  return (name) => found.get(name) ?? 1
}

/** a copy of what trains under a name: training may write over it */
const startOf = ({ params }: Tuned, name: string): (readonly [string, Tensor])[] =>
  params[name] ? [[name, mul(params[name], 1)]] : []

/** one adapter in the folder itself; several each in a folder of its name, as PEFT has them */
const saveAdapters = async (
  tuned: Tuned,
  params: Params,
  out: string,
  { base, model, from, packages, start }: { base: string; model: Folder; start: Params } & Omit<Attached, 'tuned'>,
): Promise<string[]> => {
  const names = [...new Set(tuned.bound.map((b) => b.name))]
  const files: string[] = []
  for (const [i, name] of names.entries()) {
    const others = names.filter((n) => n !== name)
    const one = others.length ? deleteAdapters(tuned, others, params) : tuned
    // what trains whole is kept with the first
    const own = Object.fromEntries(Object.keys(one.params).map((n) => [n, params[n]!]))
    const mine = i ? selectParams(own, (n) => !(n in tuned.network.weights || n in tuned.network.vectors)) : own
    const folder = names.length > 1 ? join(out, name) : out
    const known = from?.find((f) => f.name === name)
    const about = { base, ...known?.formats, ...(known && { config: known.config }) }
    const written = new Set<string>()
    const sink = async (file: string): Promise<Sink> => {
      written.add(file)
      await mkdir(dirname(join(folder, file)), { recursive: true })
      return fileSink(join(folder, file))
    }
    try {
      await savePeft(sink, { ...one, params: mine }, mine, about)
    } catch (error) {
      // what has begun from a base of its own, which no file holds, as a LoRA for the model as it is
      if (!one.bound.some((b) => b.base)) throw error
      const about = { base, model, folder, start, sink }
      const more = await saveStart(one, mine, about).catch((why: Error) => {
        throw new Failure(`${folder}: ${(error as Error).message} (${why.message})`)
      })
      for (const file of more) written.add(file)
    }
    const origin = packages[name]
    if (origin !== undefined) {
      const path = join(folder, PEFT_CONFIG)
      const config = JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>
      await writeJson(path, { ...config, [PACKAGE]: origin.startsWith('/') ? `./${relative(folder, origin)}` : origin })
    }
    const prefix = names.length > 1 ? `${name}/` : ''
    files.push(...[...written].map((file) => `${prefix}${file}`))
  }
  return files
}

/** MODEL of a run file: `mini` and hub names as they are, a folder by its path */
const modelOf = async (file: Own, model: string, field: string): Promise<string> => {
  if (model === 'mini') return model
  return file.find(model, field).catch((error) => {
    if (/^[\w-][\w.-]*\/[\w.-]+(@.+)?$/.test(model)) return model
    throw error
  })
}
