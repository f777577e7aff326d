/**
 * How PEFT writes a method: one `PeftFormat` for each, in formats/NAME.ts. Most say it as data: which option is which field
 * of adapter_config.json, and what the tensors of a site are called in adapter_model.safetensors. What does not fit the data
 * is a function beside it; the code that reads and writes (load.ts, save.ts, config.ts) knows no method by name. The list in
 * formats/index.ts is written by `npm run generate`. Tests in test/peft.test.ts and test/from-weft.test.ts hold every folder
 * of testkit/fixtures/peft to its reference.safetensors (input_ids, logits).
 */
import type { Adapter, Config, Params, Site, Tensor } from '@weftjs/spec'
import type { Folder, Sink } from '@weftjs/tensor/checkpoint'
import type { Beside } from './beside.ts'
import type { PeftConfig } from './config.ts'
import type { Attached, Loaded } from './load.ts'
import type { SavePeftOptions, savePeft } from './save.ts'

/** One adapter at one site with its tensors, trained and fixed. */
export interface Held {
  readonly site: Site
  readonly adapter: Adapter
  readonly state: Params
}

/** One field of the file and the option that it stands for. */
export interface Field {
  /** in adapter_config.json */
  readonly key: string
  /** of a value that is there; null and a missing field are `fallback` */
  test(value: unknown): boolean
  /** what `test` wants, for the message: `a whole number of at least 1` */
  readonly wanted: string
  /** PEFT's own default, under which the option is left out; a field without one must be in the file */
  readonly fallback?: unknown
  /** value of the file → the option; as it is by default, and left out where it gives undefined */
  read?(value: unknown, config: PeftConfig): unknown
  /** the option (or its absence) → value of the file; as it is by default, `fallback` where the option is absent */
  write?(option: unknown, options: Config): unknown
  /** what the tensors of a site say themselves, in the file's terms: a rank is a shape */
  of?(held: Held): unknown
  /** the field beside it that gives some modules another value, by patterns over their names */
  readonly pattern?: string
  /** it says how training starts or goes, not what the tensors mean */
  readonly start?: boolean
}

/** A tensor's place in the file where it differs from ours. */
export interface Layout {
  /** of the file, from ours */
  shape(ours: readonly number[]): readonly number[]
  write(ours: Tensor): Tensor
  read(file: Tensor, shape: readonly number[]): Tensor
}
/** Name behind the module's (`lora_A.weight`), and older names that are read too. */
export interface Part {
  readonly name: string
  readonly also?: readonly string[]
  readonly layout?: Layout
  /** may a file with this config leave it out? then what a start draws from the config's seed stands */
  readonly drawn?: (config: PeftConfig) => boolean
}

/** One tensor of the file that holds several of ours. */
export interface Stack {
  /** behind `base_model.model.` */
  readonly name: string
  /** ours, in `params` or `constants` */
  readonly of: readonly [string, ...string[]]
  /** of the file */
  readonly shape: readonly number[]
  /** in the order of `of` */
  write(ours: readonly Tensor[]): Tensor
  read(file: Tensor): readonly Tensor[]
}

export interface PeftFormat {
  /** `peft_type` of adapter_config.json */
  readonly type: string
  /** `name` of the adapters that it writes */
  readonly method: string
  /** of several formats with one type: is this config mine? the first that says yes reads it */
  readonly when?: (config: Readonly<Record<string, unknown>>) => boolean
  /** by our option */
  readonly fields: Readonly<Record<string, Field>>
  /** fields of the file that change what its tensors mean, with the values that say nothing (null, [] and {} always do) */
  readonly inert?: Readonly<Record<string, readonly unknown[]>>
  /** other fields of a written config, PEFT's defaults */
  readonly fixed?: Readonly<Record<string, unknown>>
  /** fields that say so in every config that is written, also where another one is kept */
  readonly always?: Readonly<Record<string, unknown>>
  /** further complaints about a config */
  readonly check?: (config: PeftConfig) => void
  make(options: Config): Adapter<any>
  /** more options than the fields say */
  readonly options?: (config: PeftConfig, targets: readonly Site[]) => Config
  /** more fields than the options say, or others in their place */
  readonly config?: (held: readonly Held[]) => Readonly<Record<string, unknown>>
  /** by the keys of the state */
  readonly parts: Readonly<Record<string, string | Part>> | ((held: Held) => Readonly<Record<string, string | Part>>)
  /** by the keys of `ctx.shared`: whole names in the file, such as `base_model.vera_A` */
  readonly shared?:
    | Readonly<Record<string, string | Part>>
    | ((key: string, sites: readonly Site[]) => string | Part | undefined)
  /** by the keys of `ctx.shared`: names behind each module under which the file repeats it, which nobody reads */
  readonly copies?: Readonly<Record<string, string>> | ((site: Site) => Readonly<Record<string, string>>)
  /** how it stands in files of other types */
  readonly beside?: Beside
  /** no copy of a frozen embedding stands beside its adapter, as PEFT has it for trained tokens */
  readonly bare?: boolean
  /** where several sites have one tensor of the file; `prefix` and `name` as in `attach` */
  readonly stacks?: (
    bound: readonly { readonly site: Site; readonly prefix: string; readonly name: string }[],
    all: Params,
  ) => readonly Stack[]
  /** the name that patterns of the config see, where that is not the module's */
  readonly named?: (site: Site) => string | undefined
  /** where one config and one file do not hold it: a mixture of adapters that have folders of their own */
  readonly folders?: Folders
  /** the sites that a config adapts, where PEFT does not choose them by target_modules among the modules with a matrix */
  readonly targets?: (config: PeftConfig, sites: readonly Site[]) => readonly Site[]
}

/** How a method is read and written that lies in several folders. */
export interface Folders {
  /** what the configs of the other folders add to the one that was read */
  read(
    config: PeftConfig,
    folder: Folder,
    readConfig: (folder: Folder, formats: readonly PeftFormat[]) => Promise<PeftConfig>,
  ): Promise<Readonly<Record<string, unknown>>>
  load(config: PeftConfig, folder: Folder, tuned: Attached): Promise<Loaded>
  save(to: {
    readonly format: PeftFormat
    readonly sink: (file: string) => Sink | Promise<Sink>
    readonly tuned: Attached
    readonly params: Params
    readonly options: SavePeftOptions
    readonly savePeft: typeof savePeft
    readonly writeConfig: (sink: Sink, config: Readonly<Record<string, unknown>>) => Promise<void>
  }): Promise<PeftConfig>
}

const isNumber = (v: unknown): v is number => typeof v === 'number' && Number.isFinite(v)
const or = <T extends Field>(field: T, more: Partial<Field>): Field => ({ ...field, ...more })

/** a whole number of at least `least` */
export const whole = (key: string, least: number, more: Partial<Field> = {}): Field =>
  or(
    { key, test: (v) => Number.isInteger(v) && (v as number) >= least, wanted: `a whole number of at least ${least}` },
    more,
  )
export const number = (key: string, more: Partial<Field> = {}): Field =>
  or({ key, test: isNumber, wanted: 'a number' }, more)
export const flag = (key: string, fallback: boolean, more: Partial<Field> = {}): Field =>
  or({ key, test: (v) => typeof v === 'boolean', wanted: 'true or false', fallback }, more)
/** a chance in [0, 1), of something that happens only while training */
export const chance = (key: string, more: Partial<Field> = {}): Field =>
  or({ key, test: (v) => isNumber(v) && v >= 0 && v < 1, wanted: 'a number in [0, 1)', fallback: 0, start: true }, more)
export const oneOf = (key: string, values: readonly unknown[], fallback: unknown, more: Partial<Field> = {}): Field =>
  or(
    { key, test: (v) => values.includes(v), wanted: values.map((v) => JSON.stringify(v)).join(' or '), fallback },
    more,
  )
/** a field by which PEFT chooses a start that leaves the base as it is: of no meaning for tensors that are trained */
export const starts = (key: string, values: readonly unknown[] = [true, false], written: unknown = true): Field => ({
  ...{ key, test: (v) => values.includes(v), wanted: values.map((v) => JSON.stringify(v)).join(' or ') },
  ...{ fallback: written, read: () => undefined, write: () => written, start: true },
})

/** the file keeps the transpose of a matrix */
export const turned = (transpose: (t: Tensor) => Tensor): Layout => ({
  shape: (s) => s.toReversed(),
  write: transpose,
  read: transpose,
})
/** the file has the same numbers in the same order under another shape */
export const shaped = (
  reshape: (t: Tensor, shape: number[]) => Tensor,
  shape: (ours: readonly number[]) => readonly number[],
): Layout => ({
  shape,
  write: (t) => reshape(t, [...shape(t.shape)]),
  read: (t, ours) => reshape(t, [...ours]),
})
