import type { Config } from '@weftjs/spec'
import type { TransformerConfig } from '../config.ts'

/** One tensor of a checkpoint and where it lives here. */
export interface Name {
  /** its name in a Hugging Face file; `{i}` stands for the layer */
  readonly hf: string
  /** ours: a site for a matrix, a vector's name otherwise */
  readonly name: string
  /** `transposed`: stored [in, out] (GPT-2's Conv1D); `patches`: a convolution [out, in, k, k] read as [out, in·k·k] */
  readonly layout?: 'transposed' | 'patches'
  /** may be missing from the file */
  readonly optional?: boolean
}

/** How a family of checkpoints is read and written: data, and one function from its config to ours. */
export interface Architecture {
  /** values of `model_type` */
  readonly types: readonly string[]
  config(source: Config): TransformerConfig
  names(c: TransformerConfig): readonly Name[]
}

/** reads config.json fields, each with an error that names it */
export const reader = (
  source: Config,
): {
  number(key: string, fallback?: number): number
  maybe(key: string): number | undefined
  text(key: string, fallback?: string): string
  flag(key: string, fallback: boolean): boolean
  record(key: string): Config | undefined
} => {
  const wrong = (key: string, wanted: string): Error =>
    new Error(`config.json: ${key} must be ${wanted}, found ${JSON.stringify(source[key])}`)
  return {
    number: (key, fallback) => {
      const value = source[key] ?? fallback
      if (typeof value !== 'number' || !Number.isFinite(value)) throw wrong(key, 'a number')
      return value
    },
    maybe: (key) => {
      const value = source[key]
      if (value === undefined || value === null) return undefined
      if (typeof value !== 'number') throw wrong(key, 'a number')
      return value
    },
    text: (key, fallback) => {
      const value = source[key] ?? fallback
      if (typeof value !== 'string') throw wrong(key, 'a string')
      return value
    },
    flag: (key, fallback) => {
      const value = source[key] ?? fallback
      if (typeof value !== 'boolean') throw wrong(key, 'true or false')
      return value
    },
    record: (key) => {
      const value = source[key]
      if (value === undefined || value === null) return undefined
      if (typeof value !== 'object' || Array.isArray(value)) throw wrong(key, 'an object')
      return value as Config
    },
  }
}

/** expand `{i}` of per-layer names */
export const perLayer = (layers: number, names: readonly Name[]): Name[] =>
  Array.from({ length: layers }, (_, i) =>
    names.map((n) => ({ ...n, hf: n.hf.replace('{i}', String(i)), name: n.name.replace('{i}', String(i)) })),
  ).flat()
