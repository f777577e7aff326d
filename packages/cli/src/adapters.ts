import { pathToFileURL } from 'node:url'
import type { Attachment } from '@weftjs/model'
import type { Adapter, Config, Network } from '@weftjs/spec'
import { codecOf } from './codecs.ts'
import { Failure } from './fail.ts'
import { methods } from './methods.generated.ts'
import { nearest } from './nearest.ts'
import { findModule } from './packages.ts'
import type { AdapterSettings } from './schema.ts'

export type Factory = (options: Config, ...given: unknown[]) => Adapter<any>

const camel = (name: string): string => name.replace(/[-_]+([a-z0-9])/gi, (_, c: string) => c.toUpperCase())
const snake = (name: string): string => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)

/** the names of our own methods that make an adapter */
const methodNames = (): readonly string[] =>
  methods.flatMap((m) => (m.family === 'lora' && m.subpath.startsWith('@weftjs/lora/') ? [m.subpath.slice(13)] : []))

/** Our own methods; each is loaded when it is named. */
const ours = async (name: string): Promise<Factory | undefined> => {
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name)) return undefined
  let loaded: Record<string, unknown>
  try {
    loaded = (await import(`@weftjs/lora/${name}`)) as Record<string, unknown>
  } catch (error) {
    if (methodNames().includes(name)) throw error
    return undefined
  }
  const found = loaded[camel(name)]
  return typeof found === 'function' ? (found as Factory) : undefined
}

/** the factory of a module: the export that is asked for, or that has the package's name, or the only one */
const factoryIn = (
  module: Record<string, unknown>,
  method: string,
  wanted: string | undefined,
  field: string,
): Factory => {
  const made = Object.entries(module).filter(([name, v]) => typeof v === 'function' && name !== 'default')
  const last = method
    .replace(/\.[cm]?[jt]s$/, '')
    .split('/')
    .at(-1)!
  const names = wanted === undefined ? [last, last.replace(/^weft-(adapter-|lora-)?/, '')] : [wanted]
  const byName = made.find(([name]) => names.map(camel).includes(name))?.[1]
  const found = byName ?? (wanted === undefined ? (made.length === 1 ? made[0]![1] : module['default']) : undefined)
  if (typeof found === 'function') return found as Factory
  throw new Failure(
    `${field}: '${method}' exports ${made.map(([name]) => name).join(', ') || 'no function'}${
      wanted === undefined ? `; name one of them, as ${method}/${made[0]?.[0] ?? 'factory'}` : `, and no '${wanted}'`
    }`,
  )
}

/** Where a method comes from. */
export interface Source {
  readonly factory: Factory
  /** the file of one that is not ours */
  readonly file?: string
  /** the names of its options, where they are known */
  readonly options?: readonly string[]
}

/**
 * A method by its name: ours, else a package or a file as seen from these folders.
 * @throws Failure that names the nearest of ours where there is none
 */
export const loadMethod = async (method: string, folders: readonly string[], field: string): Promise<Source> => {
  // lnTuning, as the list has it, and ln_tuning are ln-tuning
  const name = /^\w+$/.test(method) ? snake(method).replaceAll('_', '-') : method
  const own = await ours(name)
  const { options } = methods.find((m) => m.subpath === `@weftjs/lora/${name}` && m.name === camel(name)) ?? {}
  if (own) return { factory: own, ...(options && { options }) }
  const elsewhere = methods.find((m) => m.family === 'lora' && m.name === camel(method))
  if (elsewhere && !elsewhere.subpath.startsWith('@weftjs/lora/'))
    throw new Failure(`${field}: '${method}' is no adapter but a part of ${elsewhere.subpath}; use it from code`)
  const found = await findModule(method, folders).catch((error: Error) => {
    throw new Failure(`${field}: ${error.message}`)
  })
  if (!found) {
    const near = nearest(method, methodNames())
    throw new Failure(
      `${field}: there is no '${method}'; ${near ? `did you mean ${near}?` : `there are ${methodNames().join(', ')}`} A package of that name is not installed near ${[...new Set(folders)].join(' or ')} either`,
    )
  }
  let module: Record<string, unknown>
  try {
    module = (await import(pathToFileURL(found.file).href)) as Record<string, unknown>
  } catch (error) {
    throw new Failure(`${field}: ${found.file} cannot be loaded: ${(error as Error).message}`)
  }
  return { factory: factoryIn(module, method, found.wanted, field), file: found.file }
}

/**
 * The options that a factory looks at when it is called; undefined where it hands all of them on, so that nobody knows.
 * A copy of them that the adapter keeps as its `options` does not count.
 */
const lookedAt = (factory: Factory): ReadonlySet<string> | undefined => {
  const names = new Set<string>()
  let copies = 0
  const note = (key: string | symbol): void => {
    if (typeof key === 'string') names.add(key)
  }
  const probe = new Proxy({} as Record<string, unknown>, {
    get: (_, key) => {
      note(key)
      return undefined
    },
    has: (_, key) => {
      note(key)
      return false
    },
    ownKeys: () => {
      copies++
      return []
    },
  })
  try {
    if (factory(probe).options) copies--
  } catch {
    // an option that must be given is missing; what it has looked at up to here is known
  }
  return copies > 0 ? undefined : names
}

/** the fields of an entry that are not its method's options */
const OWN: readonly string[] = ['method', 'at', 'name']

/** What a method may need beyond its options. */
export interface Given {
  /** the network before its matrices were packed */
  readonly original?: Network<any>
}
/** methods whose factory takes more than options */
const MORE: Readonly<Record<string, (given: Given) => unknown[]>> = {
  loftq: ({ original }) => (original ? [original] : []),
}
const takesMore = (a: object): boolean => 'method' in a && Object.hasOwn(MORE, String(a.method))
/** the number of the first of these methods that looks at the matrices before this run packs them */
export const needsOriginal = (adapters: readonly object[]): number | undefined => {
  const found = adapters.findIndex((a) => takesMore(a) && !('original' in a))
  return found < 0 ? undefined : found
}

/**
 * The options of an entry under the names that the factory has: `rank_pattern` → `rankPattern`.
 * @throws Failure for an option that the factory does not look at, with the nearest that it does
 */
const optionsFor = (settings: AdapterSettings, { factory, options: declared }: Source, field: string): Config => {
  const names = declared ? new Set(declared) : lookedAt(factory)
  const options: Record<string, unknown> = {}
  const odd: string[] = []
  const own = takesMore(settings) ? [...OWN, 'original'] : OWN
  for (const [key, value] of Object.entries(settings)) {
    if (own.includes(key)) continue
    const name = camel(key)
    if (names && !names.has(name)) {
      const known = [...names].map(snake)
      const near = nearest(snake(name), [...known, ...own])
      odd.push(
        `${field}.${key}: '${settings.method}' has no such option; ${near ? `did you mean ${near}?` : `there are ${known.sort().join(', ') || 'none'}`}`,
      )
    }
    options[name] = name === 'codec' && typeof value === 'string' ? codecOf(value, `${field}.${key}`) : value
  }
  if (odd.length) throw new Failure(odd.join('\n'))
  return options
}

/** An entry of `adapters` with the method that it names, before it is made. */
export interface Prepared {
  readonly source: Source
  /** MODEL before it was packed, where it is named */
  readonly original?: string
  make(given: Given): Attachment & { readonly source: Source }
}

export const prepareAdapter = async (
  settings: AdapterSettings,
  index: number,
  folders: readonly string[],
): Promise<Prepared> => {
  const field = `adapters.${index}`
  const source = await loadMethod(settings.method, folders, `${field}.method`)
  const options = optionsFor(settings, source, field)
  const original = takesMore(settings) ? settings['original'] : undefined
  if (original !== undefined && (typeof original !== 'string' || !original))
    throw new Failure(`${field}.original: must be a model, as in "model", found ${JSON.stringify(original)}`)
  return {
    source,
    ...(original !== undefined && { original }),
    make: (given) => {
      let adapter: Adapter
      try {
        adapter = source.factory(options, ...(MORE[settings.method]?.(given) ?? []))
      } catch (error) {
        throw new Failure(`${field}: ${(error as Error).message}`)
      }
      const verbs = ['weight', 'vector', 'around', 'attend'] as const
      if (typeof adapter?.name !== 'string' || typeof adapter.init !== 'function' || !verbs.some((v) => adapter[v]))
        throw new Failure(
          `${field}.method: '${settings.method}' gives no adapter: it must have a name, init, and one of ${verbs.join(', ')}`,
        )
      return { adapter, at: settings.at, ...(settings.name !== undefined && { name: settings.name }), source }
    },
  }
}
