/**
 * `npm run lock`: mends package-lock.json so that `npm ci` works on every platform. A registry that serves one platform's
 * binaries makes npm drop the others' entries, and `npm ci` then refuses the file; and addresses of a registry do not belong there.
 */
import { writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { read, root } from './source.ts'

interface Entry {
  version?: string
  resolved?: string
  dev?: boolean
  optional?: boolean
  optionalDependencies?: Record<string, string>
  os?: string[]
  cpu?: string[]
  libc?: string[]
}
export interface Lock {
  packages: Record<string, Entry>
}

const OS: readonly [string, RegExp][] = [
  ['android', /android/],
  ['darwin', /darwin/],
  ['freebsd', /freebsd/],
  ['openbsd', /openbsd/],
  ['openharmony', /openharmony/],
  ['win32', /win32|windows/],
  ['linux', /linux/],
]
const CPU: readonly [string, RegExp][] = [
  ['arm64', /arm64/],
  ['arm', /arm-|arm$/],
  ['loong64', /loong64/],
  ['ppc64', /ppc64/],
  ['riscv64', /riscv64/],
  ['s390x', /s390x/],
  ['ia32', /ia32/],
  ['x64', /x64|-64/],
]
const first = (table: readonly [string, RegExp][], name: string): string[] => {
  const found = table.find(([, pattern]) => pattern.test(name))
  return found ? [found[0]] : []
}

/** a package seen from the folder of another, as Node resolves it */
const resolved = (packages: Lock['packages'], from: string, name: string): boolean => {
  for (
    let at = from;
    ;
    at = at.includes('node_modules/') ? at.slice(0, at.lastIndexOf('node_modules/')).replace(/\/$/, '') : ''
  ) {
    if (packages[`${at ? `${at}/` : ''}node_modules/${name}`]) return true
    if (!at) return false
  }
}

/** optional dependencies that have no entry of their own */
export const missing = ({ packages }: Lock): { name: string; entry: Entry }[] =>
  Object.entries(packages).flatMap(([from, { dev, optionalDependencies = {} }]) =>
    Object.entries(optionalDependencies)
      .filter(([name, version]) => /^\d/.test(version) && !resolved(packages, from, name))
      .map(([name, version]) => {
        const libc = /musl/.test(name) ? ['musl'] : /linux.*gnu/.test(name) ? ['glibc'] : []
        return {
          name,
          entry: {
            version,
            cpu: first(CPU, name),
            ...(dev && { dev }),
            ...(libc.length && { libc }),
            optional: true,
            os: first(OS, name),
          },
        }
      }),
  )

/** the lock file's text with every platform's entry and no address */
export const mended = (text: string): string => {
  const lock: Lock = JSON.parse(text)
  for (const { name, entry } of missing(lock)) lock.packages[`node_modules/${name}`] = entry
  for (const entry of Object.values(lock.packages)) if (/^https?:/.test(entry.resolved ?? '')) delete entry.resolved
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, 'en'))
  return `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, null, 2)}\n`
}

if (basename(process.argv[1] ?? '') === 'lock.ts')
  writeFileSync(join(root, 'package-lock.json'), mended(read('package-lock.json')))
