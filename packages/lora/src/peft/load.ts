import type { Adapter, Network, Params, Site, Tensor2D } from '@weftjs/spec'
import { keep, tensor, tidy, transpose } from '@weftjs/tensor'
import { type Checkpoint, CheckpointError, type Folder, openCheckpoint } from '@weftjs/tensor/checkpoint'
import { type LoraOptions, type LoraState, lora, loraScale } from '../lora.ts'
import { type PeftConfig, readPeftConfig } from './config.ts'
import { exactly, patterned } from './pattern.ts'
import { peftTargets, peftTrained } from './target.ts'

/** What `attach` makes of a network, as far as adapter files need it. */
export interface Attached {
  readonly network: Network<object>
  readonly sites: readonly Site[]
  readonly bound: readonly { readonly site: Site; readonly adapter: Adapter; readonly prefix: string }[]
  readonly params: Params
}

/** The arguments of `attach` that a PEFT config stands for. */
export interface FromPeft<N extends Network<object>> {
  /** the network, with a head of its own where the config saves a tied head or embedding apart */
  readonly network: N
  readonly attachments: readonly [{ readonly adapter: Adapter<LoraState>; readonly at: (site: Site) => boolean }]
  readonly options: { readonly train?: readonly string[] }
}

/** our options for a PEFT config on the sites it targets: patterns become exact names of sites */
export const peftOptions = (config: PeftConfig, targets: readonly Site[]): LoraOptions => {
  const own = (key: 'rank_pattern' | 'alpha_pattern'): Record<string, number> => {
    const find = patterned(config[key] ?? {}, `adapter_config.json: ${key}`)
    return Object.fromEntries(
      targets.flatMap((s) => {
        const value = find(s.module)
        return value === undefined ? [] : [[exactly(s.name), value]]
      }),
    )
  }
  const [rankPattern, alphaPattern] = [own('rank_pattern'), own('alpha_pattern')]
  return {
    rank: config.r,
    alpha: config.lora_alpha,
    ...(config.use_rslora && { rslora: true }),
    ...(config.lora_dropout && { dropout: config.lora_dropout }),
    ...(Object.keys(rankPattern).length && { rankPattern }),
    ...(Object.keys(alphaPattern).length && { alphaPattern }),
    ...(config.init_lora_weights === 'gaussian' && { init: 'gaussian' as const }),
    ...(config.lora_bias && { loraBias: true }),
  }
}

/**
 * What to attach for a PEFT config: `attach(start.network, start.attachments, rng, start.options)`.
 * @throws Error when no module matches, a rank is larger than its matrix, or a field is not supported
 */
export const fromPeft = <N extends Network<object>>(
  config: PeftConfig,
  network: N,
  sites: readonly Site[],
): FromPeft<N> => {
  const targets = peftTargets(config, sites)
  const names = new Set(targets.map((s) => s.name))
  const head = sites.find((s) => s.name === 'head')?.weight
  const apart: N | undefined =
    head && !network.weights['head']
      ? { ...network, config: { ...network.config, tied: false }, weights: { ...network.weights, head } }
      : undefined
  // PEFT copies a module that it saves, and what was tied to it stays as it was
  const copied = peftTrained({ ...config, bias: 'none' }, apart ?? network, sites)
  const base = apart && copied.some((n) => n === 'head' || n === 'embed') ? apart : network
  const train = peftTrained(config, base, sites)
  return {
    network: base,
    attachments: [{ adapter: lora(peftOptions(config, targets)), at: (site) => names.has(site.name) }],
    options: { ...(train.length && { train }) },
  }
}

const PREFIX = 'base_model.model.'

/** One tensor of ours and the names it may have in a PEFT file, the first being the one that PEFT writes today. */
export interface PeftTensor {
  /** in `params` */
  readonly name: string
  readonly keys: readonly [string, ...string[]]
  /** in the file */
  readonly shape: readonly number[]
  /** the file keeps the transpose */
  readonly transposed: boolean
}

/**
 * Every trained tensor of a tuned network under PEFT's name.
 * @throws Error for what a PEFT LoRA file cannot hold
 */
export const peftTensors = ({ bound, params, sites }: Attached): readonly PeftTensor[] => {
  const found: PeftTensor[] = []
  const add = (name: string, transposed: boolean, ...keys: [string, ...string[]]): void => {
    const { shape } = params[name]!
    found.push({ name, keys, transposed, shape: transposed ? shape.toReversed() : shape })
  }
  const moduleOf = ({ name, module }: Site): string => {
    if (module === undefined) throw new Error(`${name}: has no module in a checkpoint, so PEFT has no name for it`)
    return `${PREFIX}${module}`
  }
  const adapted = new Map<string, string>()
  for (const { site, adapter, prefix } of bound) {
    if (adapter.name !== 'lora')
      throw new Error(`${site.name}: a PEFT LoRA file cannot hold '${adapter.name}'; save its tensors as they are`)
    if (adapted.has(site.name))
      throw new Error(
        `${site.name}: a PEFT file holds one adapter for each module, and ${adapted.get(site.name)} and ${prefix} both are here; save them apart`,
      )
    adapted.set(site.name, prefix)
    const module = moduleOf(site)
    const bias = Object.hasOwn(params, `${prefix}.bias`)
    if (site.kind === 'embed') {
      if (bias) throw new Error(`${site.name}: PEFT has no lora_bias for an embedding; train without "loraBias" here`)
      // PEFT: delta = (B·A)ᵀ with A [r, V], B [D, r]
      add(`${prefix}.b`, true, `${module}.lora_embedding_A`)
      add(`${prefix}.a`, true, `${module}.lora_embedding_B`)
    } else {
      add(`${prefix}.a`, false, `${module}.lora_A.weight`)
      add(`${prefix}.b`, false, `${module}.lora_B.weight`)
      if (bias) add(`${prefix}.bias`, false, `${module}.lora_B.bias`)
    }
  }
  const bySite = new Map(sites.map((s) => [s.name, s]))
  const taken = new Set(found.map((t) => t.name))
  for (const name of Object.keys(params).filter((n) => !taken.has(n))) {
    const owner = bySite.get(name) ?? bySite.get(name.replace(/\.bias$/, ''))
    if (!owner) throw new Error(`${name}: trained, but no module of the model holds it, so PEFT has no name for it`)
    const module = moduleOf(owner)
    if (owner.name === name) add(name, owner.transposed === true && params[name]!.rank === 2, `${module}.weight`)
    else if (adapted.has(owner.name)) add(name, false, `${module}.base_layer.bias`, `${module}.bias`)
    else add(name, false, `${module}.bias`)
  }
  return found
}

/**
 * The tensors of a PEFT folder for a tuned network: what `attach` calls `params`. All are read and checked before the
 * first is made.
 * @throws CheckpointError or Error that names the tensor which is missing, not known, or of another shape
 */
export const loadPeft = async (folder: Folder, tuned: Attached): Promise<Params> => {
  const config = await readPeftConfig(folder)
  checkScale(config, tuned, folder.name)
  const checkpoint = await openCheckpoint(folder, { stem: 'adapter_model' })
  try {
    const wanted = peftTensors(tuned)
    const keys = wanted.map((t) => resolve(checkpoint, t))
    await checkRest(checkpoint, new Set(keys), tuned)
    const values: Float32Array[] = []
    for (const key of keys) values.push(await checkpoint.floats(key))
    return tidy(() =>
      Object.fromEntries(
        wanted.map(({ name, shape, transposed }, i) => {
          const read = tensor(values[i]!, [...shape])
          return [name, keep(transposed ? transpose(read) : read)]
        }),
      ),
    )
  } finally {
    await checkpoint.close()
  }
}

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
    const site = sites.find(({ module }) => module !== undefined && key.startsWith(`${PREFIX}${module}.base_layer.`))
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

/** the same tensors mean something else under another α: refuse */
const checkScale = (config: PeftConfig, { bound }: Attached, file: string): void => {
  const theirs = loraScale(
    peftOptions(
      config,
      bound.map((b) => b.site),
    ),
  )
  for (const { site, adapter } of bound) {
    const [want, have] = [theirs(site), loraScale((adapter.options ?? {}) as LoraOptions)(site)]
    if (want.rank !== have.rank || Math.abs(want.factor - have.factor) > 1e-6 * Math.abs(want.factor))
      throw new Error(
        `${site.name}: ${file} was trained with rank ${want.rank} and a factor of ${want.factor}, and this adapter has ${have.rank} and ${have.factor}; attach what fromPeft gives`,
      )
  }
}

/** float32 values of tensors that have PEFT's names and layout, one at a time */
export const peftValues = async (params: Params, { name, transposed }: PeftTensor): Promise<Float32Array> => {
  const t = params[name]!
  if (!transposed) return (await t.data()) as Float32Array
  const turned = tidy(() => transpose(t as Tensor2D))
  try {
    return (await turned.data()) as Float32Array
  } finally {
    turned.dispose()
  }
}
