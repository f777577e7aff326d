import type { Adapter, Network, Params, Site } from '@weftjs/spec'
import { keep, reshape, tensor, tidy, transpose } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { under } from '../shared/under.ts'
import { mustHaveLayers } from './base.ts'
import { besides, parted, saysBeside } from './beside.ts'
import { type Formats, formatOf, type PeftConfig, readPeftConfig } from './config.ts'
import { type Held, type Layout, type Part, type PeftFormat, type Stack, shaped, turned } from './format.ts'
import { formats as known } from './formats/index.ts'
import { alike, meaningOf, peftOptions, targetsOf } from './meaning.ts'
import { PEFT_PREFIX, PEFT_STEM } from './names.ts'
import { native } from './native.ts'
import { peftTrained, tableOf } from './target.ts'

/** One adapter at one site, as `attach` binds it. */
export interface AttachedAt {
  readonly site: Site
  readonly adapter: Adapter
  /** of the attachment */
  readonly name: string
  /** before its tensors in `params` and `constants` */
  readonly prefix: string
}
/** What `attach` makes of a network, as far as adapter files need it. */
export interface Attached {
  readonly network: Network<object>
  readonly sites: readonly Site[]
  readonly bound: readonly AttachedAt[]
  readonly params: Params
  readonly constants: Params
}

interface AttachedBy {
  readonly adapter: Adapter<any>
  readonly at: (site: Site) => boolean
}
/** The arguments of `attach` that a PEFT config stands for. */
export interface FromPeft<N extends Network<object>> {
  /** the network, with a head of its own where the config saves a tied head or embedding apart */
  readonly network: N
  readonly attachments: readonly [AttachedBy, ...AttachedBy[]]
  readonly options: { readonly train?: readonly string[] }
}

/**
 * What to attach for a PEFT config: `attach(start.network, start.attachments, rng, start.options)`.
 * @throws Error when no module matches, a rank is larger than its matrix, or a field is not supported
 */
export const fromPeft = <N extends Network<object>>(
  config: PeftConfig,
  network: N,
  sites: readonly Site[],
  formats: Formats = {},
): FromPeft<N> => {
  const format = formatOf(config, formats)
  mustHaveLayers(config, network)
  const targets = targetsOf(format, config, sites)
  const names = new Set(targets.map((s) => s.name))
  const head = sites.find((s) => s.name === 'head')?.weight
  const apart: N | undefined =
    head && !network.weights['head']
      ? { ...network, config: { ...network.config, tied: false }, weights: { ...network.weights, head } }
      : undefined
  // PEFT copies a module that it saves, and what was tied to it stays as it was
  const copied = peftTrained({ ...config, bias: 'none' }, apart ?? network, sites, targets)
  const base = apart && copied.some((n) => n === 'head' || n === 'embed') ? apart : network
  const train = peftTrained(config, base, sites, targets)
  return {
    network: base,
    attachments: [
      { adapter: format.make(peftOptions(format, config, targets)), at: (site) => names.has(site.name) },
      ...besides(config, formats.formats ?? known, sites).map((b) => ({
        adapter: b.format.make(b.options),
        at: (site: Site) => b.targets.some((t) => t.name === site.name),
      })),
    ],
    options: { ...(train.length && { train }) },
  }
}

/** the format that writes an adapter: PEFT's, or our own where PEFT has none */
export const formatFor = (adapter: Adapter, { formats = known, make = () => adapter }: Formats = {}): PeftFormat =>
  formats.find((f) => f.method === adapter.name) ?? native(adapter.name, make)

/** a bound adapter with its tensors among those of `tuned` */
export const heldOf = ({ params, constants }: Attached, { site, adapter, prefix }: AttachedAt): Held => ({
  ...{ site, adapter, state: under(`${prefix}.`, constants, params) },
})

/** One tensor of ours and the names it may have in a PEFT file, the first being the one that PEFT writes today. */
export interface PeftTensor {
  /** in `params` or `constants` */
  readonly name: string
  readonly keys: readonly [string, ...string[]]
  /** in the file, and here */
  readonly shape: readonly number[]
  readonly own: readonly number[]
  readonly layout?: Layout
  /** in place of `layout`, where it holds several of ours, `name` being the first */
  readonly stack?: Stack
  readonly drawn?: Part['drawn']
  /** the file has it under another name already */
  readonly copy?: boolean
}

/**
 * Every tensor of a tuned network that a PEFT file holds, under PEFT's name.
 * @throws Error for what a PEFT file cannot hold
 */
export const peftTensors = (tuned: Attached, options: Formats = {}): readonly PeftTensor[] => {
  const { params, constants, sites } = tuned
  const { main: bound, beside } = parted(tuned.bound, (a) => formatFor(a, options))
  const several = bound.find((b) => formatFor(b.adapter, options).folders)
  if (several)
    throw new Error(
      `${several.site.name}: '${several.adapter.name}' has several files in PEFT's layout; savePeft writes them`,
    )
  const found: PeftTensor[] = []
  const add = (name: string, part: string | Part, wrap: (file: string) => readonly string[]): void => {
    const own = (params[name] ?? constants[name])!.shape
    const { name: file, also = [], layout, drawn } = typeof part === 'string' ? { name: part } : part
    const keys = [file, ...also].flatMap(wrap) as [string, ...string[]]
    found.push({
      name,
      keys,
      own,
      shape: layout ? layout.shape(own) : own,
      ...(layout && { layout }),
      ...(drawn && { drawn }),
    })
  }
  const adapted = new Map<string, string>()
  const shared = new Map<string, PeftFormat>()
  for (const b of bound) {
    const { site, adapter, prefix, name } = b
    const format = formatFor(adapter, options)
    const first = formatFor(bound[0]!.adapter, options)
    if (format.type !== first.type)
      throw new Error(
        `${site.name}: a PEFT ${first.type} file cannot hold '${adapter.name}' beside '${bound[0]!.adapter.name}'; save them apart`,
      )
    if (adapted.has(site.name))
      throw new Error(
        `${site.name}: a PEFT file holds one adapter for each module, and ${adapted.get(site.name)} and ${prefix} both are here; save them apart`,
      )
    adapted.set(site.name, prefix)
    const place = placeOf(site, format)
    const held = heldOf(tuned, b)
    const parts = typeof format.parts === 'function' ? format.parts(held) : format.parts
    for (const [key, part] of Object.entries(parts))
      if (held.state[key]) add(`${prefix}.${key}`, part, (file) => [`${place}.${file}`])
    shared.set(name, format)
  }
  for (const [name, format] of shared) {
    const start = `${name}.shared.`
    const at = bound.filter((b) => b.name === name).map((b) => b.site)
    for (const key in under(start, params, constants)) {
      const part = typeof format.shared === 'function' ? format.shared(key, at) : format.shared?.[key]
      if (part !== undefined) add(`${start}${key}`, part, (file) => [file])
    }
  }
  for (const { site, adapter, name } of bound) {
    const format = formatFor(adapter, options)
    const repeated = typeof format.copies === 'function' ? format.copies(site) : (format.copies ?? {})
    for (const [key, file] of Object.entries(repeated)) {
      const full = `${name}.shared.${key}`
      const shape = (params[full] ?? constants[full])?.shape
      if (shape) found.push({ name: full, keys: [`${placeOf(site, format)}.${file}`], shape, own: shape, copy: true })
    }
  }
  for (const format of new Set(shared.values())) {
    const own = bound.filter((b) => shared.get(b.name) === format)
    for (const stack of format.stacks?.(own, { ...constants, ...params }) ?? [])
      found.push({
        ...{ name: stack.of[0], keys: [`${PEFT_PREFIX}${stack.name}`], shape: stack.shape, own: stack.shape, stack },
      })
  }
  for (const { site, adapter, prefix, name } of beside)
    for (const [key, file] of Object.entries(formatFor(adapter, options).beside!.parts)) {
      const full = [`${prefix}.${key}`, `${name}.shared.${key}`].find((n) => params[n] ?? constants[n])
      if (full && !found.some((t) => t.name === full)) add(full, file, (f) => [`${placeOf(site)}.${f}`])
    }
  const bySite = new Map(sites.map((s) => [s.name, s]))
  const taken = new Set(found.flatMap((t) => t.stack?.of ?? t.name))
  for (const name of Object.keys(params).filter((n) => !taken.has(n))) {
    const owner = bySite.get(name) ?? bySite.get(name.replace(/\.bias$/, ''))
    if (!owner) {
      const table = tableOf(tuned.network, name)
      if (!table) throw new Error(`${name}: trained, but no module of the model holds it, so PEFT has no name for it`)
      const batched = table.layout === 'batched' && params[name]!.rank < 3
      const layout = shaped(reshape, (s) => [...[1, 1, 1].slice(s.length), ...s])
      add(name, { name: table.hf, ...(batched && { layout }) }, (file) => [`${PEFT_PREFIX}${file}`])
      continue
    }
    const module = placeOf(owner)
    const flipped = owner.name === name && owner.transposed === true && params[name]!.rank === 2
    if (owner.name === name)
      add(name, { name: 'weight', ...(flipped && { layout: TURNED }) }, (file) => [`${module}.${file}`])
    else if (adapted.has(owner.name)) add(name, 'bias', (file) => [`${module}.base_layer.${file}`, `${module}.${file}`])
    else add(name, 'bias', (file) => [`${module}.${file}`])
  }
  return found
}
const TURNED = turned((t) => transpose(t))

/** a module's path in a PEFT file; a method of ours may also stand where the checkpoint has no module */
const placeOf = ({ name, module }: Site, format?: PeftFormat): string => {
  if (module !== undefined) return `${PEFT_PREFIX}${module}`
  if (format?.type.startsWith('WEFT_')) return `${PEFT_PREFIX}weft.${name}`
  throw new Error(`${name}: has no module in a checkpoint, so PEFT has no name for it`)
}

/** What a folder holds: what trains, and what is held fixed with it. */
export interface Loaded {
  readonly params: Params
  readonly constants: Params
}

/**
 * The tensors of a PEFT folder for a tuned network: values for what `attach` calls `params` and `constants`. All are read
 * and checked before the first is made.
 * @throws CheckpointError or Error that names the tensor which is missing, not known, or of another shape
 */
export const loadPeft = async (folder: Folder, tuned: Attached, options: Formats = {}): Promise<Loaded> => {
  const config = await readPeftConfig(folder, options)
  checkMeaning(config, tuned, folder.name, options)
  const { folders } = formatOf(config, options)
  if (folders) return folders.load(config, folder, tuned)
  const checkpoint = await openCheckpoint(folder, { stem: PEFT_STEM })
  try {
    const known = peftTensors(tuned, options)
    const wanted = known.filter((t) => !t.copy && (t.keys.some((k) => checkpoint.has(k)) || !t.drawn?.(config)))
    const keys = wanted.map((t) => resolve(checkpoint, t))
    await checkRest(checkpoint, new Set([...keys, ...known.flatMap((t) => t.keys)]), tuned)
    const values: (Float32Array | Int32Array)[] = []
    for (const [i, key] of keys.entries())
      values.push(isWhole(tuned, wanted[i]!.name) ? await checkpoint.ints(key) : await checkpoint.floats(key))
    const read = tidy(() =>
      wanted.flatMap(({ name, shape, own, layout, stack }, i) => {
        const file = tensor(values[i]!, [...shape], isWhole(tuned, name) ? 'int32' : 'float32')
        if (stack) return stack.read(file).map((t, j) => [stack.of[j]!, keep(t)] as const)
        return [[name, keep(layout ? layout.read(file, own) : file)] as const]
      }),
    )
    const of = (all: Params): Params => Object.fromEntries(read.filter(([name]) => Object.hasOwn(all, name)))
    return { params: of(tuned.params), constants: of(tuned.constants) }
  } finally {
    await checkpoint.close()
  }
}
const isWhole = ({ constants }: Attached, name: string): boolean => constants[name]?.dtype === 'int32'

/** the key under which the file has a tensor, after a look at its shape */
const resolve = (checkpoint: Checkpoint, { keys, name, shape }: PeftTensor): string => {
  const key = keys.find((k) => checkpoint.has(k))
  const hint = 'the adapter belongs to another model or other target modules'
  if (key === undefined) {
    const have = checkpoint.names.slice(0, 3).join(', ')
    throw new CheckpointError(`missing (for ${name}); the file has ${have || 'nothing'}, …: ${hint}`, {
      file: checkpoint.name,
      tensor: keys[0],
    })
  }
  const found = checkpoint.entry(key).shape
  if (found.join() !== shape.join())
    throw new CheckpointError(`has shape [${found}], and ${name} needs [${shape}]: ${hint}`, {
      file: checkpoint.name,
      tensor: key,
    })
  return key
}

/** what is in the file beside the adapter: copies of frozen embeddings must be the base's, anything else is foreign */
const checkRest = async (checkpoint: Checkpoint, used: ReadonlySet<string>, tuned: Attached): Promise<void> => {
  const { network, sites } = tuned
  for (const key of checkpoint.names) {
    if (used.has(key) || key.includes('.original_module.')) continue
    const site = sites.find(
      ({ module, kind }) =>
        module !== undefined &&
        (key.startsWith(`${PEFT_PREFIX}${module}.base_layer.`) ||
          ((kind === 'embed' || kind === 'head') && key === `${PEFT_PREFIX}${module}.weight`)),
    )
    const own = !site
      ? undefined
      : key.endsWith('.weight')
        ? site.weight?.dense()
        : network.vectors[`${site.name}.${key.split('.').at(-1)}`]
    if (!own)
      throw new CheckpointError(
        'is of no use here; the adapter belongs to another model, or to modules that the config does not target',
        { file: checkpoint.name, tensor: key },
      )
    const { shape } = checkpoint.entry(key)
    const base = (await own.data()) as Float32Array
    const copy = await checkpoint.floats(key)
    const size = base.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
    if (shape.join() !== own.shape.join() || copy.some((v, i) => !(Math.abs(v - base[i]!) <= 1e-2 * size)))
      throw new CheckpointError(
        `is a frozen copy of ${site!.name} that differs from this base (shape [${shape}] and [${own.shape}]); load the base that the adapter was trained on`,
        { file: checkpoint.name, tensor: key },
      )
  }
}

/** the same tensors mean something else under other options: refuse */
const checkMeaning = (config: PeftConfig, tuned: Attached, file: string, options: Formats): void => {
  const format = formatOf(config, options)
  const { main, beside } = parted(tuned.bound, (a) => formatFor(a, options))
  const targets = main.map((b) => b.site)
  const theirs = format.make(peftOptions(format, config, targets))
  if (!saysBeside(config, beside, options.formats ?? known, tuned.sites))
    throw new Error(
      `${file} has ${
        besides(config, options.formats ?? known, tuned.sites)
          .map((b) => b.format.beside!.key)
          .join() || 'nothing'
      } beside its ${format.type}, and this network ${beside[0]?.prefix ?? 'has nothing'}; attach what fromPeft gives`,
    )
  for (const b of main) {
    const held = heldOf(tuned, b)
    if (b.adapter.name !== theirs.name)
      throw new Error(
        `${b.site.name}: ${file} holds '${theirs.name}', and this adapter is '${b.adapter.name}'; attach what fromPeft gives`,
      )
    const have = meaningOf(format, held)
    const want = meaningOf(format, { ...held, adapter: theirs })
    const odd = Object.keys(want).find((key) => !alike(want[key], have[key]))
    if (odd !== undefined)
      throw new Error(
        `${b.site.name}: ${file} was trained with ${odd} ${JSON.stringify(want[odd])}, and this adapter has ${JSON.stringify(have[odd])}; attach what fromPeft gives`,
      )
  }
}

/** values of tensors that have PEFT's names and layout, one at a time */
export const peftValues = async (
  all: Params,
  { name, layout, stack }: PeftTensor,
): Promise<Float32Array | Int32Array> => {
  const t = all[name]!
  if (!layout && !stack) return (await t.data()) as Float32Array
  const laid = tidy(() => (stack ? stack.write(stack.of.map((n) => all[n]!)) : layout!.write(t)))
  try {
    return (await laid.data()) as Float32Array
  } finally {
    if (laid !== t) laid.dispose()
  }
}
