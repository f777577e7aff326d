/**
 * Compiles the kernels of the wasm heap: `packages/NAME/assembly/FILE.ts` (AssemblyScript) → `src/wasm/FILE.generated.ts`,
 * each in a version for plain SIMD and one for relaxed SIMD where the two differ. Part of `npm run generate`.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { manifest, packages, read, root } from './source.ts'

const OPTIONS = ['-O3', '--runtime', 'stub', '--importMemory', '--noAssert', '--enable', 'simd']

const compile = async (file: string, relaxed: boolean): Promise<Buffer> => {
  const asc = await import('assemblyscript/asc') // loads a whole compiler, which a check has no need of
  const out = mkdtempSync(join(tmpdir(), 'weft-assembly-'))
  try {
    const { error, stderr } = await asc.main([
      file,
      ...['--baseDir', root, '--outFile', join(out, 'module.wasm')],
      ...OPTIONS,
      ...(relaxed ? ['--enable', 'relaxed-simd', '--use', 'RELAXED=1'] : []),
    ])
    if (error) throw new Error(`${file}: ${stderr.toString()}`)
    const bytes = readFileSync(join(out, 'module.wasm'))
    if (hasData(bytes))
      throw new Error(`${file}: the module has static data, which would overwrite the heap it shares; use none`)
    return bytes
  } finally {
    rmSync(out, { recursive: true })
  }
}

/** is there a data section? (number 11) */
const hasData = (bytes: Buffer): boolean => {
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at++]!
    let size = 0
    for (let shift = 0, more = true; more; shift += 7) {
      const byte = bytes[at++]!
      size |= (byte & 127) << shift
      more = byte > 127
    }
    if (id === 11) return true
    at += size
  }
  return false
}

const listed = (folder: string): string[] =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder))
        .filter((f) => f.endsWith('.ts'))
        .map((f) => join(folder, f))
    : []
/** the sources that are modules; what they share is in lib/ */
const sources = (): string[] => packages().flatMap((p) => listed(join(p, 'assembly')))
const moduleOf = (source: string): string =>
  join(source, '..', '..', 'src', 'wasm', `${basename(source, '.ts')}.generated.ts`)

/** a file and what it imports, in a fixed order */
const closure = (file: string, seen: Set<string> = new Set()): Set<string> => {
  if (seen.has(file)) return seen
  seen.add(file)
  for (const [, from] of read(file).matchAll(/from '(\.[^']+)'/g)) closure(`${join(dirname(file), from!)}.ts`, seen)
  return seen
}

/** of all that a module is made from: so that a check need not compile */
const fingerprint = (source: string): string => {
  const hash = createHash('sha256').update(JSON.stringify([OPTIONS, manifest('.').devDependencies?.['assemblyscript']]))
  for (const file of closure(source)) hash.update(read(file).replaceAll('\r\n', '\n'))
  return hash.digest('hex').slice(0, 16)
}

const moduleText = async (source: string): Promise<string> => {
  const [simd, relaxed] = [await compile(source, false), await compile(source, true)]
  const base64 = (name: string, bytes: Buffer): string => `export const ${name} = '${bytes.toString('base64')}'\n`
  return `// Written by \`npm run generate\` from ${source} (${fingerprint(source)}).\n
${base64('simd', simd)}${simd.equals(relaxed) ? '' : base64('relaxed', relaxed)}`
}

/** modules that are not of their sources as they are now */
export const outdatedModules = (): string[] =>
  sources()
    .filter((source) => {
      const path = moduleOf(source)
      return !existsSync(join(root, path)) || !read(path).includes(`(${fingerprint(source)})`)
    })
    .map(moduleOf)

if (basename(process.argv[1] ?? '') === 'assembly.ts') {
  const stale = new Set(outdatedModules())
  for (const source of sources()) {
    const path = moduleOf(source)
    if (!stale.has(path)) continue
    mkdirSync(join(root, dirname(path)), { recursive: true })
    writeFileSync(join(root, path), await moduleText(source))
    console.log(path)
  }
}
