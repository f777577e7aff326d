import type { Adapter, Config, Site } from '@weftjs/spec'
import type { PeftFormat } from './format.ts'

/** How a method stands in the file of another, beside it: rows of tokens beside a LoRA. */
export interface Beside {
  /** the field of adapter_config.json that says so, in files of these types */
  readonly key: string
  readonly types: readonly string[]
  /** names behind the module, by the keys of the state or of what its sites share, which stands at the first of them */
  readonly parts: Readonly<Record<string, string>>
  read(value: unknown, sites: readonly Site[]): { readonly options: Config; readonly targets: readonly Site[] }
  write(adapter: Adapter, targets: readonly Site[]): unknown
}

/** what is attached, parted into the adapters that give a file its type and those that stand beside them */
export const parted = <B extends { readonly adapter: Adapter }>(
  bound: readonly B[],
  formatFor: (adapter: Adapter) => PeftFormat,
): { readonly main: readonly B[]; readonly beside: readonly B[] } => {
  const type = bound.map((b) => formatFor(b.adapter)).find((f) => !f.beside)?.type
  const stands = ({ adapter }: B): boolean => (type && formatFor(adapter).beside?.types.includes(type)) || false
  return { main: bound.filter((b) => !stands(b)), beside: bound.filter(stands) }
}

/** the formats that a config has beside its own, with what it says of them */
export const besides = (
  config: Readonly<Record<string, unknown>>,
  formats: readonly PeftFormat[],
  sites: readonly Site[],
): readonly { readonly format: PeftFormat; readonly options: Config; readonly targets: readonly Site[] }[] =>
  formats.flatMap((format) => {
    const { beside } = format
    const found = beside?.types.includes(config['peft_type'] as string) ? config[beside.key] : undefined
    return found === undefined || found === null ? [] : [{ format, ...beside!.read(found, sites) }]
  })

/** does a config say of what stands beside just what is attached? */
export const saysBeside = (
  config: Readonly<Record<string, unknown>>,
  bound: readonly { readonly adapter: Adapter; readonly site: Site }[],
  formats: readonly PeftFormat[],
  sites: readonly Site[],
): boolean => {
  const said = besides(config, formats, sites)
  const at = (name: string): string[] =>
    bound.filter((b) => b.adapter.name === name).map((b) => `${b.site.name} ${JSON.stringify(b.adapter.options)}`)
  const wanted = said.flatMap(({ format, options, targets }) =>
    targets.map((s) => `${s.name} ${JSON.stringify(format.make(options).options)}`),
  )
  const have = [...new Set(bound.map((b) => b.adapter.name))].flatMap(at)
  return JSON.stringify(wanted.sort()) === JSON.stringify(have.sort())
}
