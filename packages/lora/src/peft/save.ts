import type { Params, Site } from '@weftjs/spec'
import { type Dtype, encodeFloats, type Sink, type TensorSource, writeSafetensors } from '@weftjs/tensor/checkpoint'
import { type LoraOptions, loraScale } from '../lora.ts'
import { type PeftConfig, peftConfig } from './config.ts'
import { type Attached, type PeftTensor, peftOptions, peftTensors, peftValues } from './load.ts'
import { exactly } from './pattern.ts'
import { peftTargets, peftTrained } from './target.ts'

export interface SavePeftOptions {
  /** name or path of the base model, for whoever loads the adapter */
  readonly base?: string
  /** PEFT's task; CAUSAL_LM by default, null for a bare encoder */
  readonly task?: string | null
  /** the config that the adapter came from: kept where it still says what is true */
  readonly config?: PeftConfig
  /** of the file; F32 by default */
  readonly dtype?: Dtype
}

/** the value that occurs most often, so that the fewest need a pattern */
const commonest = (values: readonly number[]): number => {
  const counts = new Map<number, number>()
  for (const v of values) counts.set(v, (counts.get(v) ?? 0) + 1)
  return [...counts].reduce((a, b) => (b[1] > a[1] ? b : a))[0]
}

/** the shortest ends of module names that choose these sites and no others, or their whole names */
const targetsOf = (chosen: readonly Site[], sites: readonly Site[]): readonly string[] => {
  const modules = chosen.map((s) => s.module!)
  for (const parts of [1, 2, 3]) {
    const ends = [...new Set(modules.map((m) => m.split('.').slice(-parts).join('.')))].sort()
    const candidates = sites.filter((s) => s.module !== undefined && s.weight)
    const found = peftTargets({ target_modules: ends }, candidates)
    if (found.length === chosen.length) return ends
  }
  return [...modules].sort()
}

/** what must be said of each site's rank and α beyond the common ones */
const patternsOf = (sites: readonly Site[], values: readonly number[], common: number): Record<string, number> =>
  Object.fromEntries(sites.flatMap((s, i) => (values[i] === common ? [] : [[exactly(s.module!), values[i]!] as const])))

/**
 * The adapter_config.json that describes a tuned network.
 * @throws Error for what a PEFT LoRA config cannot say
 */
export const peftConfigOf = (tuned: Attached, { base, task, config }: SavePeftOptions = {}): PeftConfig => {
  const { bound, sites, network, params } = tuned
  const tensors = peftTensors(tuned) // says what cannot be saved
  if (!bound.length) throw new Error('there is no LoRA here to save as a PEFT adapter; attach lora() first')
  const chosen = bound.map((b) => b.site)
  const options = bound.map((b) => (b.adapter.options ?? {}) as LoraOptions)
  const same = <T>(what: keyof LoraOptions, fallback: T): T => {
    const found = [...new Set(options.map((o) => (o[what] as T | undefined) ?? fallback))]
    if (found.length > 1)
      throw new Error(`PEFT has one ${what} for all modules, and here are ${found.join(', ')}; save the adapters apart`)
    return found[0]!
  }
  const rslora = same('rslora', false)
  const ranks = bound.map(({ prefix }) => params[`${prefix}.a`]!.shape[0]!)
  const alphas = bound.map(({ site }, i) => {
    const { factor } = loraScale(options[i]!)(site)
    const alpha = factor * (rslora ? Math.sqrt(ranks[i]!) : ranks[i]!)
    return Math.abs(alpha - Math.round(alpha)) < 1e-9 * Math.abs(alpha) ? Math.round(alpha) : alpha
  })
  const [r, lora_alpha] = [commonest(ranks), commonest(alphas)]
  const adapter = new Set(bound.flatMap(({ prefix }) => ['a', 'b', 'bias'].map((k) => `${prefix}.${k}`)))
  const extra = tensors.filter((t) => !adapter.has(t.name))
  const made: PeftConfig = {
    peft_type: 'LORA',
    task_type: task === undefined ? 'CAUSAL_LM' : task,
    base_model_name_or_path: base ?? null,
    inference_mode: true,
    r,
    lora_alpha,
    lora_dropout: same('dropout', 0),
    target_modules: targetsOf(chosen, sites),
    exclude_modules: null,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: patternsOf(chosen, ranks, r),
    alpha_pattern: patternsOf(chosen, alphas, lora_alpha),
    fan_in_fan_out: chosen.some((s) => s.transposed),
    init_lora_weights: same<string>('init', 'kaiming') === 'gaussian' ? 'gaussian' : true,
    lora_bias: same('loraBias', false),
    use_rslora: rslora,
    ...trainedWhole(extra, tuned),
  }
  const kept = config && { ...config, base_model_name_or_path: base ?? config.base_model_name_or_path ?? null }
  const result = kept && describes(kept, tuned) ? { ...kept, inference_mode: true } : { ...kept, ...made }
  if (!describes(result, tuned)) {
    const names = new Set(peftTrained(result, network, sites))
    const odd = extra.map((t) => t.name).filter((n) => !names.delete(n))
    throw new Error(
      `PEFT's config cannot say exactly what was trained here (${[...odd, ...names].join(', ')}); train whole modules, biases of all or of the adapted modules, or none`,
    )
  }
  return peftConfig(result)
}

/** bias and modules_to_save that stand for the tensors trained whole */
const trainedWhole = (
  extra: readonly PeftTensor[],
  { sites, network, params }: Attached,
): Pick<PeftConfig, 'bias' | 'modules_to_save'> => {
  const names = extra.map((t) => t.name)
  const isBias = (n: string): boolean => n.endsWith('.bias')
  const saved = sites.filter((s) => s.module !== undefined && names.includes(s.name))
  const loose = names.filter((n) => isBias(n) && !saved.some((s) => n === `${s.name}.bias`))
  const biases = Object.keys(network.vectors).filter(isBias)
  const bias = !loose.length ? 'none' : biases.every((n) => params[n]) ? 'all' : 'lora_only'
  return { bias, modules_to_save: saved.length ? saved.map((s) => s.module!) : null }
}

/** does PEFT, reading this config, adapt and train the very same tensors in the same way? */
const describes = (config: PeftConfig, { network, sites, bound, params }: Attached): boolean => {
  const targets = peftTargets(config, sites)
  const adapted = new Set(bound.map((b) => b.site.name))
  if (targets.length !== adapted.size || targets.some((s) => !adapted.has(s.name))) return false
  const theirs = loraScale(peftOptions(config, targets))
  const equal = bound.every(({ site, adapter, prefix }) => {
    const factor = loraScale((adapter.options ?? {}) as LoraOptions)(site).factor
    const want = theirs(site)
    return want.rank === params[`${prefix}.a`]!.shape[0] && Math.abs(want.factor - factor) <= 1e-9 * Math.abs(factor)
  })
  const own = new Set(bound.flatMap(({ prefix }) => ['a', 'b', 'bias'].map((k) => `${prefix}.${k}`)))
  const whole = Object.keys(params).filter((n) => !own.has(n))
  const trained = new Set(peftTrained(config, network, sites))
  return equal && whole.length === trained.size && whole.every((n) => trained.has(n))
}

/** frozen embeddings that PEFT writes beside an adapter of `embed_tokens` or `lm_head` */
const frozenCopies = (config: PeftConfig, { bound }: Attached): readonly { key: string; site: Site }[] => {
  const EMBEDDINGS = ['embed_tokens', 'lm_head']
  const { target_modules: targets } = config
  const wrapped = bound.map((b) => b.site).filter((s) => s.kind === 'embed' || s.kind === 'head')
  const named =
    typeof targets === 'string'
      ? wrapped.some((s) => EMBEDDINGS.includes(s.module!.split('.').at(-1)!))
      : targets.some((t) => EMBEDDINGS.includes(t))
  return named ? wrapped.map((site) => ({ key: `base_model.model.${site.module}.base_layer.weight`, site })) : []
}

/** Config and tensors of a PEFT adapter, every tensor under the name that PEFT gives it; values are read when written. */
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
  const own = peftTensors(tuned).map(
    (t): TensorSource => ({
      name: t.keys[0],
      dtype,
      shape: t.shape,
      data: async () => encodeFloats(dtype, await peftValues(params, t), { tensor: t.name }),
    }),
  )
  const copies = frozenCopies(config, tuned).map(
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
 * `sink` opens a file by name: `(file) => fileSink(join(folder, file))`, or a Blob in a browser.
 */
export const savePeft = async (
  sink: (file: string) => Sink | Promise<Sink>,
  tuned: Attached,
  params: Params,
  options: SavePeftOptions = {},
): Promise<PeftConfig> => {
  const { config, tensors } = toPeft(tuned, params, options)
  await writeSafetensors(await sink('adapter_model.safetensors'), tensors, { format: 'pt' })
  const file = await sink('adapter_config.json')
  try {
    const sorted = Object.fromEntries(Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1)))
    await file.write(new TextEncoder().encode(`${JSON.stringify(sorted, null, 2)}\n`))
    await file.close()
  } catch (error) {
    await file.abort?.()
    throw error
  }
  return config
}
