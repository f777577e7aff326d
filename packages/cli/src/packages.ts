import { readFile, realpath, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'

/** conditions of `exports`, with those that Node was started with */
const conditions = (): ReadonlySet<string> => {
  const given = [...process.execArgv, ...(process.env['NODE_OPTIONS'] ?? '').split(/\s+/)]
  const own = given.flatMap((a, i) => /^(?:--conditions=|-C=?)(.+)$/.exec(a)?.[1] ?? (a === '-C' ? given[i + 1]! : []))
  return new Set([...own, 'node', 'import', 'module-sync', 'default'])
}

interface Manifest {
  readonly name?: string
  readonly exports?: Exports
  readonly main?: string
}
type Exports = string | null | readonly Exports[] | { readonly [key: string]: Exports }

const pick = (target: Exports | undefined, accepted: ReadonlySet<string>, star: string): string | undefined => {
  if (typeof target === 'string') return target.replaceAll('*', star)
  if (target === null || target === undefined) return undefined
  if (Array.isArray(target))
    return target.reduce<string | undefined>((found, t) => found ?? pick(t, accepted, star), undefined)
  for (const [key, inner] of Object.entries(target as Record<string, Exports>)) {
    if (!accepted.has(key)) continue
    const found = pick(inner, accepted, star)
    if (found !== undefined) return found
  }
  return undefined
}

/** the file behind `.` or `./sub` by the rules of package.json's exports */
const entryOf = ({ exports, main }: Manifest, subpath: string, accepted: ReadonlySet<string>): string | undefined => {
  if (exports === undefined) return subpath === '.' ? (main ?? 'index.js') : subpath
  const keyed = typeof exports === 'object' && exports && Object.keys(exports).some((k) => k.startsWith('.'))
  const map = (keyed ? exports : { '.': exports }) as Readonly<Record<string, Exports>>
  if (Object.hasOwn(map, subpath)) return pick(map[subpath], accepted, '')
  for (const [key, target] of Object.entries(map)) {
    const [before, after] = key.split('*')
    if (after === undefined || !subpath.startsWith(before!) || !subpath.endsWith(after)) continue
    const star = subpath.slice(before!.length, subpath.length - after.length)
    if (star) return pick(target, accepted, star)
  }
  return undefined
}

const manifestOf = async (folder: string): Promise<Manifest | undefined> => {
  const text = await readFile(join(folder, 'package.json'), 'utf8').catch(() => undefined)
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Manifest)
  } catch {
    return undefined // somebody's, and not asked for
  }
}

/** Where a package is, seen from a folder: around that folder, as Node has it, or installed; or undefined. */
const installed = async (name: string, from: string): Promise<string | undefined> => {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    const own = await manifestOf(folder)
    if (own?.name === name && own.exports !== undefined) return folder
    const here = join(folder, 'node_modules', name)
    if (await stat(join(here, 'package.json')).catch(() => undefined)) return here
    if (dirname(folder) === folder) return undefined
  }
}

/** A module that a name such as `weft-adapter-foo`, `@scope/pkg/factory` or `./mine.js` stands for. */
export interface Found {
  /** to import */
  readonly file: string
  /** an export that the name asks for, where it goes beyond the module */
  readonly wanted?: string
}

/**
 * The module of a package, or of a relative path, as seen from the first folder that has it.
 * @throws Error where a package is there but has nothing under this name
 */
export const findModule = async (name: string, folders: readonly string[]): Promise<Found | undefined> => {
  const isFile = async (path: string): Promise<boolean> => (await stat(path).catch(() => undefined))?.isFile() ?? false
  if (/^\.{0,2}\//.test(name)) {
    for (const folder of folders) {
      const path = resolve(folder, name)
      if (await isFile(path)) return { file: await realpath(path) }
      // ./mine.js/factory
      if (await isFile(dirname(path))) return { file: await realpath(dirname(path)), wanted: name.split('/').at(-1)! }
    }
    return undefined
  }
  const parts = name.split('/')
  const size = name.startsWith('@') ? 2 : 1
  const [pkg, rest] = [parts.slice(0, size).join('/'), parts.slice(size).join('/')]
  for (const folder of folders) {
    const home = await installed(pkg, folder)
    if (home === undefined) continue
    const manifest = (await manifestOf(home)) ?? {}
    const accepted = conditions()
    const tries = [
      ...(rest ? [{ subpath: `./${rest}`, wanted: undefined }] : []),
      { subpath: '.', wanted: rest || undefined },
    ]
    for (const { subpath, wanted } of tries) {
      const entry = entryOf(manifest, subpath, accepted)
      if (entry !== undefined && (await isFile(join(home, entry))))
        return { file: await realpath(join(home, entry)), ...(wanted !== undefined && { wanted }) }
    }
    throw new Error(`${home}: exports nothing as '${rest || '.'}'; look at its package.json`)
  }
  return undefined
}
