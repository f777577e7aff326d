import { codecs, ggufMixes, ggufWritable } from '@weftjs/quant'
import type { Codec, Config } from '@weftjs/spec'
import { Failure, usage } from './fail.ts'
import { methods } from './methods.generated.ts'
import { nearest } from './nearest.ts'

/** A storage format as people name it: `gptq:bits=3,group=64` on the command line, or an object in a run file. */
export type CodecSettings = string | ({ readonly name: string } & Config)

interface Named {
  readonly name: string
  readonly options: Config
}

/** names with options in them */
const SHORT: Readonly<Record<string, Named>> = {
  'nf4-dq': { name: 'nf4', options: { double: true } },
  'fp4-dq': { name: 'fp4', options: { double: true } },
  aqlm: { name: 'aqlm', options: { calibrate: true } },
}
/** not for the matrices of a model: what they are for */
const OTHERS: Readonly<Record<string, string>> = {
  dynamic8: 'an optimizer: set train.states to int8 in a run file',
  state4: 'an optimizer: set train.states to int4 in a run file',
  compeft: 'adapters: weft convert ADAPTER OUT --to compeft',
}
const isOther = (name: string): boolean => Object.hasOwn(OTHERS, name)

/** what --codec and base.codec take, GGUF's types aside */
export const codecNames: readonly string[] = [
  ...new Set([...Object.keys(codecs).filter((n) => !isOther(n) && n !== 'gguf'), ...Object.keys(SHORT)]),
].sort()

/** at commas that stand within no list and no object */
const outer = (text: string): string[] => {
  const found = ['']
  let depth = 0
  for (const c of text) {
    if (c === '[' || c === '{') depth++
    if (c === ']' || c === '}') depth--
    if (c === ',' && depth <= 0) found.push('')
    else found[found.length - 1] += c
  }
  return found
}

/** of `a=1,b=text,c=["list"]` */
const pairs = (text: string, wrong: (found: string) => Error): Config => {
  const found: [string, unknown][] = []
  for (const pair of outer(text)) {
    const [key, ...rest] = pair.split('=')
    if (!key || !rest.length) throw wrong(`'${pair}' is no option; write name=value, separated by commas`)
    const value = rest.join('=')
    try {
      found.push([key, JSON.parse(value)])
    } catch {
      found.push([key, value])
    }
  }
  return Object.fromEntries(found)
}

/** how a fault is told: as one of the command line's, or of a run file's */
export const refuser =
  (field: string): ((found: string) => Error) =>
  (found) =>
    field.startsWith('--') ? usage(`${field}: ${found}`) : new Failure(`${field}: ${found}`)

export const namedIn = (given: CodecSettings, wrong: (found: string) => Error): Named => {
  if (typeof given !== 'string') {
    const { name, ...options } = given
    return { name, options }
  }
  const at = given.indexOf(':')
  if (at < 0) return { name: given, options: {} }
  const [name, rest] = [given.slice(0, at), given.slice(at + 1)]
  return { name, options: name === 'gguf' && !rest.includes('=') ? { type: rest } : pairs(rest, wrong) }
}

/** the mix of `gguf:Q4_K_M`, which is a file's and no matrix's */
export const mixOf = (given: CodecSettings, field: string): string | undefined => {
  const { name, options } = namedIn(given, refuser(field))
  const type = name === 'gguf' ? (options as { type?: unknown }).type : undefined
  return typeof type === 'string' ? type : undefined
}

/**
 * A storage format by its name and options.
 * @throws Failure that names the nearest where there is none, and for options that it does not have
 */
export const codecOf = (given: CodecSettings, field: string): Codec<any> => {
  const wrong = refuser(field)
  const named = namedIn(given, wrong)
  const short = Object.hasOwn(SHORT, named.name) ? SHORT[named.name] : undefined
  const name = short?.name ?? named.name
  const options = { ...short?.options, ...named.options } as Record<string, unknown>
  if (isOther(name)) throw wrong(`${name} is for ${OTHERS[name]}`)
  if (!Object.hasOwn(codecs, name)) {
    const near = name && nearest(name, [...codecNames, 'gguf'])
    throw wrong(
      `there is no codec '${name}'; ${near ? `did you mean ${near}?` : `there are ${codecNames.join(', ')} and gguf:TYPE`}`,
    )
  }
  if (
    name === 'gguf' &&
    (ggufMixes as readonly string[]).includes(String(options['type'])) &&
    !writable(options['type'])
  )
    throw wrong(`${options['type']} mixes types over a whole file; take one of ${ggufWritable.join(', ')} here`)
  const known = methods.find((m) => m.family === 'quant' && m.subpath === `@weftjs/quant/${name}`)?.options
  const odd = known && Object.keys(options).find((o) => !known.includes(o))
  if (odd !== undefined)
    throw wrong(`${name} has no option '${odd}'; ${known!.length ? `it has ${known!.join(', ')}` : 'it has none'}`)
  const { of } = options as { of?: CodecSettings }
  try {
    return codecs[name]!({ ...options, ...(of !== undefined && { of: codecOf(of, field) }) })
  } catch (error) {
    if (error instanceof Failure) throw error
    throw wrong((error as Error).message)
  }
}
const writable = (type: unknown): boolean => (ggufWritable as readonly unknown[]).includes(type)
