import type { Config, Site } from '@weftjs/spec'
import { exactly, patterned } from '../shared/pattern.ts'
import type { PeftConfig } from './config.ts'
import type { Field, Held, PeftFormat } from './format.ts'
import { peftTargets } from './target.ts'

/** the sites that a config adapts, by its format's rules */
export const targetsOf = (format: PeftFormat, config: PeftConfig, sites: readonly Site[]): readonly Site[] =>
  format.targets?.(config, sites) ?? peftTargets(config, sites)

/** our options for a PEFT config on the sites it targets: patterns become exact names of sites */
export const peftOptions = (format: PeftFormat, config: PeftConfig, targets: readonly Site[]): Config => {
  const options: Record<string, unknown> = {}
  for (const [option, { key, fallback, read = (v: unknown) => v, pattern }] of Object.entries(format.fields)) {
    const found = config[key] ?? fallback
    const value = read(found, config)
    if (value !== undefined && value !== fallback) options[option] = value
    if (!pattern) continue
    const find = patterned((config[pattern] ?? {}) as Record<string, unknown>, `adapter_config.json: ${pattern}`)
    const own = targets.flatMap((s) => {
      const v = find(format.named?.(s) ?? s.module)
      return v === undefined ? [] : [[exactly(s.name), read(v, config)] as const]
    })
    if (own.length) options[`${option}Pattern`] = Object.fromEntries(own)
  }
  return { ...options, ...format.options?.(config, targets) }
}

/** the value that a field has at a site, in the file's terms */
export const valueAt = ({ key: _, ...field }: Field, option: string, held: Held): unknown => {
  if (field.of) return field.of(held)
  const options = (held.adapter.options ?? {}) as Record<string, unknown>
  const { name, module } = held.site
  const special = field.pattern
    ? patterned(
        (options[`${option}Pattern`] ?? {}) as Record<string, unknown>,
        `${held.adapter.name}: ${option}Pattern`,
      )(name, module)
    : undefined
  const own = special ?? options[option]
  if (field.write) return field.write(own, options)
  return own === undefined ? field.fallback : own
}

/** what the tensors of a site mean: every field but those of how training starts and goes */
export const meaningOf = (format: PeftFormat, held: Held): Readonly<Record<string, unknown>> =>
  Object.fromEntries(
    Object.entries(format.fields).flatMap(([option, field]) =>
      field.start ? [] : [[field.key, valueAt(field, option, held)]],
    ),
  )
/** equal as JSON, numbers to the ninth digit */
export const alike = (a: unknown, b: unknown): boolean =>
  typeof a === 'number' && typeof b === 'number'
    ? Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b))
    : JSON.stringify(a ?? null) === JSON.stringify(b ?? null)
