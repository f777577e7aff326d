import { parseArgs } from 'node:util'
import { usage } from './fail.ts'

/** One option of a command, for parsing and for --help. */
export interface Option {
  readonly help: string
  /** the value's name in --help; absent for a switch */
  readonly value?: string
  readonly short?: string
  readonly many?: boolean
}

export interface Command {
  readonly name: string
  readonly summary: string
  /** names of positional arguments, `[OPTIONAL]` in brackets, `MANY...` with dots */
  readonly args: readonly string[]
  readonly options: Readonly<Record<string, Option>>
  readonly examples?: readonly string[]
  run(call: Call): Promise<number>
}

/** What a command was called with. */
export interface Call {
  readonly args: readonly string[]
  text(option: string): string | undefined
  number(option: string, bounds?: { min?: number; max?: number; whole?: boolean }): number | undefined
  flag(option: string): boolean
  all(option: string): readonly string[]
}

/** the options that several commands share, worded once */
export const SHARED = {
  backend: { value: 'webgpu|wasm|cpu', help: 'where to compute; the fastest that works by default' },
  adapter: {
    value: 'DIR',
    many: true,
    help: 'an adapter to put on the model, a folder, a ComPEFT file or a GGUF LoRA; may be repeated',
  },
  json: { help: 'print JSON' },
} as const satisfies Record<string, Option>

export const helpOf = ({ name, summary, args, options, examples = [] }: Command): string => {
  const rows = Object.entries({ ...options, help: { help: 'show this', short: 'h' } as Option }).map(
    ([key, { value, short, help }]) =>
      [`${short ? `-${short}, ` : ''}--${key}${value ? ` ${value}` : ''}`, help] as const,
  )
  const width = Math.max(...rows.map(([left]) => left.length)) + 2
  return [
    `weft ${[name, ...args].join(' ')} [options]`,
    '',
    summary,
    '',
    ...rows.map(([left, right]) => `  ${left.padEnd(width)}${right}`),
    ...(examples.length ? ['', 'Examples:', ...examples.map((e) => `  ${e}`)] : []),
    '',
  ].join('\n')
}

/** @throws Failure (exit code 2) for arguments that the command does not take */
export const parse = (command: Command, argv: readonly string[]): Call => {
  const { name, args: wanted, options } = command
  const remedy = `see weft ${name} --help`
  let parsed: { values: Record<string, unknown>; positionals: string[] }
  try {
    parsed = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: Object.fromEntries(
        Object.entries(options).map(([key, { value, short, many }]) => [
          key,
          {
            type: value ? ('string' as const) : ('boolean' as const),
            ...(short && { short }),
            ...(many && { multiple: true }),
          },
        ]),
      ),
    }) as typeof parsed
  } catch (error) {
    throw usage(`${(error as Error).message.split('. ')[0]}; ${remedy}`)
  }
  const { values, positionals } = parsed
  const least = wanted.filter((a) => !a.startsWith('[')).length
  if (positionals.length < least)
    throw usage(`${name} needs ${wanted.slice(positionals.length, least).join(' ')}; ${remedy}`)
  if (positionals.length > wanted.length && !wanted.some((a) => a.endsWith('...')))
    throw usage(`${name} does not take '${positionals[wanted.length]}'; ${remedy}`)
  return {
    args: positionals,
    text: (option) => values[option] as string | undefined,
    flag: (option) => values[option] === true,
    all: (option) => (values[option] ?? []) as string[],
    number: (option, { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY, whole = false } = {}) => {
      const text = values[option] as string | undefined
      if (text === undefined) return undefined
      const n = Number(text)
      const kind = `${whole ? 'a whole number' : 'a number'}${Number.isFinite(min) ? ` of at least ${min}` : ''}${Number.isFinite(max) ? ` and at most ${max}` : ''}`
      if (text.trim() === '' || !Number.isFinite(n) || n < min || n > max || (whole && !Number.isInteger(n)))
        throw usage(`--${option} must be ${kind}, found '${text}'; ${remedy}`)
      return n
    },
  }
}
