import { parseArgs } from 'node:util'
import { usage } from './fail.ts'
import { nearest } from './nearest.ts'

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

/** letters of an option that still has its help beside it */
const WIDE = 28

export const helpOf = ({ name, summary, args, options, examples = [] }: Command): string => {
  const rows = Object.entries({ ...options, help: { help: 'show this', short: 'h' } as Option }).map(
    ([key, { value, short, help }]) =>
      [`${short ? `-${short}, ` : ''}--${key}${value ? ` ${value}` : ''}`, help] as const,
  )
  // a long one has its line alone, so that a terminal of 80 columns shows the rest beside each other
  const width = Math.max(...rows.map(([left]) => left.length).filter((n) => n <= WIDE)) + 2
  const row = ([left, right]: readonly [string, string]): string =>
    left.length > WIDE ? `  ${left}\n  ${' '.repeat(width)}${right}` : `  ${left.padEnd(width)}${right}`
  return [
    `weft ${[name, ...args].join(' ')} [options]`,
    '',
    summary,
    '',
    ...rows.map(row),
    ...(examples.length ? ['', 'Examples:', ...examples.map((e) => `  ${e}`)] : []),
    '',
  ].join('\n')
}

/** a negative number after an option is its value, as it is after an equals sign */
const withNumbers = (argv: readonly string[], options: Command['options']): string[] => {
  const args: string[] = []
  let open = true
  for (const arg of argv) {
    const before = args.at(-1)
    if (arg === '--') open = false
    const takes = open && before?.startsWith('--') && options[before.slice(2)]?.value !== undefined
    if (takes && /^-[\d.]/.test(arg)) args[args.length - 1] = `${before}=${arg}`
    else args.push(arg)
  }
  return args
}

/** what Node says of arguments, in one sentence */
const said = ({ message }: Error, options: Command['options']): string => {
  const [, option] =
    /^Option '--([\w-]+) .*is ambiguous/.exec(message) ??
    /^Option '--([\w-]+)' argument is ambiguous/.exec(message) ??
    []
  if (option !== undefined) return `--${option} needs a value; write one that begins with a dash as --${option}=VALUE`
  const [, unknown] = /^Unknown option '--([\w-]+)'/.exec(message) ?? []
  const near = unknown === undefined ? undefined : nearest(unknown, Object.keys(options))
  return `${message.split('. ')[0]!.split('\n')[0]}${near ? `; did you mean --${near}?` : ''}`
}

/** @throws Failure (exit code 2) for arguments that the command does not take */
export const parse = (command: Command, argv: readonly string[]): Call => {
  const { name, args: wanted, options } = command
  const remedy = `see weft ${name} --help`
  let parsed: { values: Record<string, unknown>; positionals: string[] }
  try {
    parsed = parseArgs({
      args: withNumbers(argv, options),
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
    const found = said(error as Error, options)
    throw usage(found.endsWith('?') ? `${found} S${remedy.slice(1)}` : `${found}; ${remedy}`)
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
