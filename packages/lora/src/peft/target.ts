import type { Network, Site } from '@weftjs/spec'
import { pythonRegExp } from '../shared/pattern.ts'
import type { PeftConfig } from './config.ts'

/** PEFT's choice of modules: what target_modules and its companions say. */
export type PeftTargets = Pick<
  PeftConfig,
  'target_modules' | 'exclude_modules' | 'layers_to_transform' | 'layers_pattern' | 'modules_to_save'
>

const list = <T>(value: T | readonly T[] | null | undefined): readonly T[] =>
  value === undefined || value === null ? [] : Array.isArray(value) ? value : [value as T]

/** `name` itself or an end of it after a dot */
const endsIn = (name: string, ends: readonly string[]): boolean =>
  ends.some((end) => name === end || name.endsWith(`.${end}`))

const whole = (pattern: string, key: string): ((name: string) => boolean) => {
  const test = pythonRegExp(pattern, (s) => `^(?:${s})$`, key)
  return (name) => test.test(name)
}
const chosen = (value: string | readonly string[], key: string): ((name: string) => boolean) =>
  typeof value === 'string' ? whole(value, key) : (name) => endsIn(name, value)

/** the first numbered part of a module's name, behind one of the patterns where there are any */
const layerOf = (patterns: readonly string[]): ((name: string) => number | undefined) => {
  const tests = patterns.length
    ? patterns.map((p) => pythonRegExp(p, (s) => `^(?:(?:^|.*?\\.)${s}\\.(?<idx>\\d+)\\.)`, 'layers_pattern'))
    : [/^.*?\.[^.]*\.(?<idx>\d+)\./]
  return (name) => {
    for (const test of tests) {
      const found = test.exec(name)?.groups?.['idx']
      if (found !== undefined) return Number(found)
    }
    return undefined
  }
}

/**
 * The sites that a PEFT config adapts, by PEFT's own rules of matching on the modules' names.
 * @throws Error when none matches, or one that LoRA cannot adapt
 */
export const peftTargets = (config: PeftTargets, sites: readonly Site[]): readonly Site[] => {
  const { target_modules, exclude_modules, layers_to_transform: layers, modules_to_save } = config
  const named = sites.filter((s): s is Site & { module: string } => s.module !== undefined)
  const excluded = list(exclude_modules).length ? chosen(exclude_modules!, 'exclude_modules') : () => false
  const saved = list(modules_to_save).map((m) =>
    pythonRegExp(m, (s) => `^(?:(^|.*\\.)${s}($|\\..*))`, `modules_to_save[${JSON.stringify(m)}]`),
  )
  const all = typeof target_modules === 'string' && target_modules.toLowerCase() === 'all-linear'
  const target = all ? () => true : chosen(target_modules, 'target_modules')
  const layer = layerOf(list(config.layers_pattern))
  const inLayers = (name: string): boolean => {
    // an expression says its layers itself
    if (typeof target_modules === 'string' || !list(layers).length || target_modules.includes(name)) return true
    const found = layer(name)
    return found !== undefined && list(layers).includes(found)
  }
  const found = named.filter(
    (s) =>
      (all ? s.kind === 'linear' : target(s.module)) &&
      !excluded(s.module) &&
      !saved.some((test) => test.test(s.module)) &&
      inLayers(s.module),
  )
  const odd = found.find((s) => !s.weight)
  if (odd)
    throw new Error(
      `${odd.module}: target_modules ${JSON.stringify(target_modules)} chooses a ${odd.kind}, which has no matrix to adapt; narrow it to linear modules`,
    )
  if (found.length) return found
  const ends = [...new Set(named.filter((s) => s.weight).map((s) => s.module.split('.').at(-1)!))]
  throw new Error(
    `no module of this model matches target_modules ${JSON.stringify(target_modules)}; its modules end in ${ends.join(', ')}`,
  )
}

/** A vector or table of a network that no site holds, as its checkpoint names it: positions, token types, tokens of its own. */
export const tableOf = (
  { config, vectors }: Network<object>,
  name: string,
): { hf: string; layout?: string } | undefined =>
  Object.hasOwn(vectors, name)
    ? (config as { names?: readonly { name: string; hf: string; layout?: string }[] }).names?.find(
        (n) => n.name === name,
      )
    : undefined

/** Names of the network's tensors that a PEFT config trains whole: biases, and modules_to_save with all they contain. */
export const peftTrained = (
  config: PeftTargets & Pick<PeftConfig, 'bias'>,
  network: Network<object>,
  sites: readonly Site[],
  targets: readonly Site[],
): readonly string[] => {
  const names = new Set<string>()
  const own = (name: string): boolean => Object.hasOwn(network.vectors, name) || Object.hasOwn(network.weights, name)
  const saves = (module: string | undefined): boolean => {
    // PEFT compares the ends of names without a dot: "norm" is input_layernorm too
    const parts = module?.split('.') ?? []
    const paths = parts.map((_, i) => parts.slice(0, i + 1).join('.'))
    return list(config.modules_to_save).some((end) => paths.some((path) => path.endsWith(end)))
  }
  for (const { name, module } of sites)
    if (saves(module)) for (const n of [name, `${name}.bias`]) if (own(n)) names.add(n)
  const held = new Set(sites.flatMap((s) => [s.name, `${s.name}.bias`]))
  for (const name of Object.keys(network.vectors).filter((n) => !held.has(n)))
    if (saves(tableOf(network, name)?.hf.replace(/\.[^.]*$/, ''))) names.add(name)
  const { bias = 'none' } = config
  const biased = bias.endsWith('_only') ? new Set(targets.map((s) => `${s.name}.bias`)) : undefined
  for (const n of Object.keys(network.vectors))
    if (bias !== 'none' && n.endsWith('.bias') && (biased?.has(n) ?? true)) names.add(n)
  return [...names]
}
