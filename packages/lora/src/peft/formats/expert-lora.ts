import type { Site, Tensor } from '@weftjs/spec'
import { concat, reshape, split, stack } from '@weftjs/tensor'
import { type ExpertLoraOptions, expertLora, sharedA } from '../../expert-lora.ts'
import { type LoraOptions, loraScale } from '../../lora.ts'
import { type Held, number, type PeftFormat, type Stack, whole } from '../format.ts'
import { peftTargets } from '../target.ts'
import { anyRank, format as lora, loraFields, loraInert, loraParts, tidied } from './lora.ts'

const { target_parameters: _, ...inert } = loraInert
const { dropout: __, loraBias: ___, ...fields } = loraFields
const isList = (v: unknown): v is readonly string[] => Array.isArray(v) && v.length > 0

const rankOf = ({ state }: Held): number => state['b']!.shape[1]!
const alphaOf = (held: Held): number => {
  const options = (held.adapter.options ?? {}) as LoraOptions
  const { factor } = loraScale(options)(held.site)
  return tidied(factor * (options.rslora ? Math.sqrt(rankOf(held)) : rankOf(held)))
}

/** what target_parameters calls the matrix, by itself or among others */
const parameterOf = ({ fused, module }: Site): string | undefined => fused?.parameter ?? (module && `${module}.weight`)
const moduleOf = (parameter: string): string => parameter.slice(0, parameter.lastIndexOf('.'))

/** A [r·E, in], the experts' one below the other; B [parts·out, r·E], column ρ·E + e being column ρ of expert e's */
const stacksOf = (
  parameter: string,
  depth: number,
  bound: readonly { readonly site: Site; readonly prefix: string; readonly name: string }[],
  all: Readonly<Record<string, Tensor>>,
): Stack[] => {
  const { experts: E, parts } = bound[0]!.site.fused!
  const order = ({ expert, part }: NonNullable<Site['fused']>): number => expert * parts + part
  const sorted = bound.toSorted((x, y) => order(x.site.fused!) - order(y.site.fused!))
  if (sorted.length !== E * parts)
    throw new Error(
      `${sorted[0]!.site.name}: PEFT adapts ${parameter} whole, and here are ${sorted.length} of its ${E * parts} matrices; attach all of them, or none`,
    )
  const names = (list: readonly string[]): [string, ...string[]] => list as [string, ...string[]]
  const a = sorted
    .filter((x) => x.site.fused!.part === 0)
    .map(({ name, site, prefix }) => (parts > 1 ? `${name}.shared.${sharedA(site)}` : `${prefix}.a`))
  const b = sorted.map(({ prefix }) => `${prefix}.b`)
  const [[r, input], [out]] = [all[a[0]!]!.shape, all[b[0]!]!.shape] as [[number, number], [number]]
  const odd = b.find((name) => all[name]!.shape[1] !== r)
  if (odd !== undefined)
    throw new Error(`${odd}: has rank ${all[odd]!.shape[1]}, and others of ${parameter} have ${r}; give them one`)
  const at = `${moduleOf(parameter)}${'.base_layer'.repeat(depth)}`
  return [
    {
      ...{ name: `${at}.lora_A.weight`, of: names(a), shape: [r * E, input] },
      write: (ours) => concat([...ours], 0),
      read: (file) => split(file, E, 0),
    },
    {
      ...{ name: `${at}.lora_B.weight`, of: names(b), shape: [parts * out, r * E] },
      write: (ours) => {
        const whole = Array.from({ length: E }, (_, e) => concat(ours.slice(e * parts, (e + 1) * parts), 0)) // [parts·out, r]
        return reshape(stack(whole, 2), [parts * out, r * E])
      },
      read: (file) =>
        split(reshape(file, [parts * out, r, E]), E, 2).flatMap((e) => split(reshape(e, [parts * out, r]), parts, 0)),
    },
  ]
}

/** LORA with target_parameters  —  huggingface/peft, tuners/lora/layer.py */
export const format: PeftFormat = {
  ...lora,
  method: 'expert-lora',
  when: (config) => isList(config['target_parameters']),
  fields: {
    ...fields,
    rank: whole('r', 1, { pattern: 'rank_pattern', of: rankOf }),
    alpha: number('lora_alpha', { pattern: 'alpha_pattern', of: alphaOf }),
  },
  inert: { ...inert, lora_dropout: [0], lora_bias: [false], fan_in_fan_out: [false] },
  fixed: { lora_dropout: 0, lora_bias: false, fan_in_fan_out: false },
  options: (config, targets) =>
    anyRank(
      config,
      targets.map((s) => (s.fused ? { ...s, module: s.fused.parameter } : s)),
    ),
  make: (options) => expertLora(options as ExpertLoraOptions),
  check: ({ target_parameters: list }) => {
    const odd = (list as readonly unknown[]).findIndex((p) => typeof p !== 'string')
    if (odd >= 0) throw new Error(`adapter_config.json: target_parameters[${odd}] must be a string`)
  },
  targets: (config, sites) => {
    const wanted = config['target_parameters'] as readonly string[]
    const named = sites.filter((s) => s.weight && s.kind === 'linear' && parameterOf(s) !== undefined)
    const parameters = new Set(
      named.filter((s) => wanted.some((w) => `.${parameterOf(s)}`.endsWith(`.${w}`))).map((s) => s.name),
    )
    if (!parameters.size)
      throw new Error(
        `no parameter of this model matches target_parameters ${JSON.stringify(wanted)}; it has ${[...new Set(named.map(parameterOf))].slice(0, 8).join(', ')}, …`,
      )
    const { target_modules: modules } = config
    // matrices of experts are no modules where parameters are named
    const others = sites.filter((s) => !s.fused && !parameters.has(s.name))
    const chosen = new Set(modules?.length ? peftTargets(config, others).map((s) => s.name) : [])
    return sites.filter((s) => parameters.has(s.name) || chosen.has(s.name))
  },
  named: ({ fused }) => fused?.parameter,
  parts: (held) => (held.site.fused ? {} : loraParts(held)),
  shared: () => undefined,
  stacks: (bound, all) => {
    const groups = new Map<string, (typeof bound)[number][]>()
    for (const b of bound) {
      const { parameter } = b.site.fused ?? {}
      if (parameter !== undefined) groups.set(parameter, [...(groups.get(parameter) ?? []), b])
    }
    const parameters = [...groups.keys()]
    return parameters.flatMap((parameter, i) => {
      // PEFT wraps a module once for each parameter of it, the first innermost
      const depth = parameters.slice(i + 1).filter((p) => moduleOf(p) === moduleOf(parameter)).length
      return stacksOf(parameter, depth, groups.get(parameter)!, all)
    })
  },
  config: (held) => ({
    target_parameters: [...new Set(held.flatMap(({ site }) => site.fused?.parameter ?? []))].sort(),
    target_modules: held.flatMap(({ site }) => (site.fused ? [] : site.module!)).sort(),
  }),
}
