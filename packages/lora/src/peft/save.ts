import type { Network, Params, Site } from '@weftjs/spec'
import { type Dtype, encodeFloats, type Sink, type TensorSource, writeSafetensors } from '@weftjs/tensor/checkpoint'
import { exactly } from '../shared/pattern.ts'
import { replicatedOf, sameLayers } from './base.ts'
import { parted, saysBeside } from './beside.ts'
import { type Formats, type PeftConfig, peftConfig } from './config.ts'
import type { Field, Held, PeftFormat } from './format.ts'
import { formats as known } from './formats/index.ts'
import { type Attached, formatFor, heldOf, type PeftTensor, peftTensors, peftValues } from './load.ts'
import { alike, meaningOf, peftOptions, targetsOf, valueAt } from './meaning.ts'
import { pathOf } from './named.ts'
import { PEFT_CONFIG, PEFT_PREFIX, PEFT_TENSORS } from './names.ts'
import { peftTargets, peftTrained, tableOf } from './target.ts'

export interface SavePeftOptions extends Formats {
  /** name or path of the base model, for whoever loads the adapter */
  readonly base?: string
  /** PEFT's task; CAUSAL_LM by default, null for a bare encoder */
  readonly task?: string | null
  /** the config that the adapter came from: kept where it still says what is true */
  readonly config?: PeftConfig
  /** writes embedding and head beside it as they are; by default where the vocabulary is not the base's (save_embedding_layers) */
  readonly embeddings?: boolean
  /** puts it into a sub-folder of this name, as PEFT does with several adapters of one model */
  readonly name?: string
  /** of the file's floats; F32 by default */
  readonly dtype?: Dtype
}

/** the value that occurs most often, so that the fewest need a pattern */
const commonest = <T>(values: readonly T[]): T => {
  const counts = new Map<string, { value: T; n: number }>()
  for (const value of values) {
    const key = JSON.stringify(value) ?? ''
    counts.set(key, { value, n: (counts.get(key)?.n ?? 0) + 1 })
  }
  return [...counts.values()].reduce((a, b) => (b.n > a.n ? b : a)).value
}

/** the shortest ends of module names that choose these sites and no others, or their whole names */
const targetsByEnds = (chosen: readonly Site[], sites: readonly Site[]): readonly string[] => {
  const modules = chosen.map((s) => s.module!)
  for (const parts of [1, 2, 3]) {
    const ends = [...new Set(modules.map((m) => m.split('.').slice(-parts).join('.')))].sort()
    const candidates = sites.filter((s) => s.module !== undefined && s.weight)
    const found = peftTargets({ target_modules: ends }, candidates)
    if (found.length === chosen.length) return ends
  }
  return [...modules].sort()
}

/** what the file says in one field, and in the pattern beside it */
const fieldOf = (
  field: Field,
  option: string,
  held: readonly Held[],
  named: PeftFormat['named'],
): Record<string, unknown> => {
  const values = held.map((h) => valueAt(field, option, h))
  const common = commonest(values)
  const others = held.flatMap((h, i) =>
    alike(values[i], common) ? [] : [[exactly(named?.(h.site) ?? h.site.module!), values[i]] as const],
  )
  if (!field.pattern) {
    const found = [...new Set(values.map((v) => JSON.stringify(v)))]
    if (found.length > 1)
      throw new Error(
        `PEFT has one ${field.key} for all modules, and here are ${found.join(', ')}; save the adapters apart`,
      )
    return { [field.key]: common ?? null }
  }
  return { [field.key]: common, [field.pattern]: Object.fromEntries(others) }
}

/**
 * The adapter_config.json that describes a tuned network.
 * @throws Error for what a PEFT config cannot say
 */
export const peftConfigOf = (tuned: Attached, options: SavePeftOptions = {}): PeftConfig => {
  const { base, task, config } = options
  const { sites, network } = tuned
  const { main: bound, beside } = parted(tuned.bound, (a) => formatFor(a, options))
  const tensors = peftTensors(tuned, options) // says what cannot be saved
  const [first] = bound
  if (!first) throw new Error('there is no adapter here to save as a PEFT adapter; attach one first')
  const format = formatFor(first.adapter, options)
  const held = bound.map((b) => heldOf(tuned, b))
  const own = new Set(tuned.bound.map((b) => `${b.prefix}.`))
  const extra = tensors.filter(
    ({ name }) =>
      Object.hasOwn(tuned.params, name) &&
      ![...own].some((prefix) => name.startsWith(prefix)) &&
      !tuned.bound.some((b) => name.startsWith(`${b.name}.shared.`)),
  )
  const made: PeftConfig = {
    peft_type: format.type,
    task_type: task === undefined ? 'CAUSAL_LM' : task,
    base_model_name_or_path: base ?? null,
    inference_mode: true,
    target_modules: targetsIn(held, sites),
    exclude_modules: null,
    layers_to_transform: null,
    layers_pattern: null,
    ...(replicatedOf(network) && { layer_replication: replicatedOf(network) }),
    ...Object.assign(
      {},
      ...Object.entries(format.fields).map(([option, field]) => fieldOf(field, option, held, format.named)),
    ),
    ...format.fixed,
    ...format.always,
    ...trainedWhole(extra, tuned, format),
    ...format.config?.(held),
    ...Object.fromEntries(
      [...new Map(beside.map((b) => [b.name, b.adapter]))].map(([name, adapter]) => {
        const targets = beside.filter((b) => b.name === name).map((b) => b.site)
        const how = formatFor(adapter, options).beside!
        return [how.key, how.write(adapter, targets)]
      }),
    ),
  }
  const kept = config && {
    ...config,
    ...format.always,
    base_model_name_or_path: base ?? config.base_model_name_or_path ?? null,
  }
  const result =
    kept && describes(kept, tuned, format, options) ? { ...kept, inference_mode: true } : { ...kept, ...made }
  if (!describes(result, tuned, format, options)) {
    const names = new Set(peftTrained(result, network, sites, targetsOf(format, result, sites)))
    const odd = extra.map((t) => t.name).filter((n) => !names.delete(n))
    const theirs = new Set(targetsOf(format, result, sites).map((s) => s.name))
    const here = bound.map((b) => b.site.name).filter((n) => !theirs.delete(n))
    if (here.length || theirs.size)
      throw new Error(
        `with this config PEFT would adapt ${[...theirs].join(', ') || 'no place'} too${here.length ? ` and leave ${here.join(', ')}` : ''}; attach the adapter where PEFT does`,
      )
    throw new Error(
      `PEFT's config cannot say exactly what was trained here (${[...odd, ...names].join(', ')}); train whole modules, biases of all or of the adapted modules, or none`,
    )
  }
  return peftConfig(result, { ...options, make: options.make ?? (() => first.adapter) })
}

const targetsIn = (held: readonly Held[], sites: readonly Site[]): readonly string[] => {
  const chosen = held.map((h) => h.site)
  return chosen.every((s) => s.module !== undefined && s.weight)
    ? targetsByEnds(chosen, sites)
    : chosen.flatMap((s) => s.module ?? [])
}

/** bias and modules_to_save that stand for the tensors trained whole */
const trainedWhole = (
  extra: readonly PeftTensor[],
  { sites, network, params }: Attached,
  format: PeftFormat,
): Readonly<Record<string, unknown>> => {
  const names = extra.map((t) => t.name)
  const isBias = (n: string): boolean => n.endsWith('.bias')
  const saved = sites.filter((s) => s.module !== undefined && names.includes(s.name))
  const loose = names.filter((n) => isBias(n) && !saved.some((s) => n === `${s.name}.bias`))
  const biases = Object.keys(network.vectors).filter(isBias)
  const bias = !loose.length ? 'none' : biases.every((n) => params[n]) ? 'all' : `${format.type.toLowerCase()}_only`
  const tables = names.flatMap((n) => tableOf(network, n)?.hf.replace(/\.[^.]*$/, '') ?? [])
  const modules = [...saved.map((s) => s.module!), ...new Set(tables.filter((t) => !sites.some((s) => s.module === t)))]
  return { bias, modules_to_save: modules.length ? modules : null }
}

/** does PEFT, reading this config, adapt and train the very same tensors in the same way? */
const describes = (config: PeftConfig, tuned: Attached, format: PeftFormat, options: Formats): boolean => {
  const { network, sites, params } = tuned
  const { main: bound, beside } = parted(tuned.bound, (a) => formatFor(a, options))
  if (!sameLayers(config, network) || !saysBeside(config, beside, options.formats ?? known, sites)) return false
  const targets = targetsOf(format, config, sites)
  const adapted = new Set(bound.map((b) => b.site.name))
  if (targets.length !== adapted.size || targets.some((s) => !adapted.has(s.name))) return false
  const theirs = format.make(peftOptions(format, config, targets))
  const equal = bound.every((b) => {
    const held = heldOf(tuned, b)
    const [want, have] = [meaningOf(format, { ...held, adapter: theirs }), meaningOf(format, held)]
    return Object.keys(have).every((key) => alike(want[key], have[key]))
  })
  const own = tuned.bound.flatMap(({ prefix, name }) => [`${prefix}.`, `${name}.shared.`])
  const whole = Object.keys(params).filter((n) => !own.some((start) => n.startsWith(start)))
  const trained = new Set(peftTrained(config, network, sites, targets))
  return equal && whole.length === trained.size && whole.every((n) => trained.has(n))
}

const isResized = ({ config }: Network<object>): boolean => (config as { resized?: boolean }).resized ?? false

/** frozen embeddings that PEFT writes beside an adapter of `embed_tokens` or `lm_head`, or beside any where it is told to */
const frozenCopies = (
  config: PeftConfig,
  { bound, sites, params }: Attached,
  options: SavePeftOptions,
  all: boolean,
): readonly { key: string; site: Site }[] => {
  const EMBEDDINGS = ['embed_tokens', 'lm_head']
  const bare = bound.some((b) => formatFor(b.adapter, options).bare)
  const { target_modules: targets } = config
  const wrapped = bound.map((b) => b.site).filter((s) => s.kind === 'embed' || s.kind === 'head')
  const named =
    !bare &&
    (typeof targets === 'string' || !targets
      ? wrapped.some((s) => EMBEDDINGS.includes(s.module!.split('.').at(-1)!))
      : targets.some((t) => EMBEDDINGS.includes(t)))
  const key = (site: Site, at: string): { key: string; site: Site } => ({
    key: `${PEFT_PREFIX}${site.module}.${at}`,
    site,
  })
  const others = sites.filter(
    (s) => (s.kind === 'embed' || s.kind === 'head') && s.module && s.weight && !wrapped.includes(s) && !params[s.name],
  )
  return [
    ...(named || all ? wrapped.map((site) => key(site, 'base_layer.weight')) : []),
    // a head that is the embedding goes with it
    ...(all ? others.filter((s) => !named || !wrapped.some((w) => w.weight === s.weight)) : []).map((s) =>
      key(s, 'weight'),
    ),
  ]
}

/**
 * Config and tensors of a PEFT adapter, every tensor under the name that PEFT gives it; values are read when written.
 * `params` are what trained, and may hold `constants` that have moved.
 */
export const toPeft = (
  tuned: Attached,
  params: Params,
  options: SavePeftOptions = {},
): { config: PeftConfig; tensors: readonly TensorSource[] } => {
  const { dtype = 'F32' } = options
  const config = peftConfigOf(tuned, options)
  const missing = Object.keys(tuned.params).find((n) => params[n]?.shape.join() !== tuned.params[n]!.shape.join())
  if (missing !== undefined)
    throw new Error(`${missing}: has no value of shape [${tuned.params[missing]!.shape}] to save; pass tuned's params`)
  const all = { ...tuned.constants, ...params }
  const own = peftTensors(tuned, options).map((t): TensorSource => {
    if (all[t.name]!.dtype === 'int32')
      return {
        ...{ name: t.keys[0], dtype: 'I32', shape: t.shape },
        data: async () => {
          const values = await peftValues(all, t)
          return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
        },
      }
    return {
      ...{ name: t.keys[0], dtype, shape: t.shape },
      data: async () => encodeFloats(dtype, (await peftValues(all, t)) as Float32Array, { tensor: t.name }),
    }
  })
  const copies = frozenCopies(config, tuned, options, options.embeddings ?? isResized(tuned.network)).map(
    ({ key, site }): TensorSource => ({
      name: key,
      dtype,
      shape: site.weight!.shape,
      data: async () => encodeFloats(dtype, (await site.weight!.dense().data()) as Float32Array, { tensor: key }),
    }),
  )
  return { config, tensors: [...own, ...copies] }
}

/**
 * Writes adapter_model.safetensors and adapter_config.json, each complete before it is visible.
 * `sink` opens a file by name: `(file) => fileSink(join(folder, file))`, or a Blob in a browser. An X-LoRA has further files
 * in folders of it: `0/adapter_config.json` and so on.
 */
export const savePeft = async (
  sink: (file: string) => Sink | Promise<Sink>,
  tuned: Attached,
  params: Params,
  options: SavePeftOptions = {},
): Promise<PeftConfig> => {
  const format = tuned.bound.map((b) => formatFor(b.adapter, options)).find((f) => f.folders)
  if (format) return format.folders!.save({ format, sink, tuned, params, options, savePeft, writeConfig })
  const { config, tensors } = toPeft(tuned, params, options)
  const { name } = options
  await writeSafetensors(await sink(pathOf(name, PEFT_TENSORS)), tensors, { format: 'pt' })
  await writeConfig(await sink(pathOf(name, PEFT_CONFIG)), config)
  return config
}

const writeConfig = async (file: Sink, config: Readonly<Record<string, unknown>>): Promise<void> => {
  try {
    const sorted = Object.fromEntries(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1)))
    await file.write(new TextEncoder().encode(`${JSON.stringify(sorted, null, 2)}\n`))
    await file.close()
  } catch (error) {
    await file.abort?.()
    throw error
  }
}
