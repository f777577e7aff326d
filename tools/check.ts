/** The rules of the repository that no other tool knows: layers, house style, manifests, links, generated files. Prints what breaks them. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join, posix } from 'node:path'
import { outdatedModules } from './assembly.ts'
import { outdated } from './index.ts'
import { mended } from './lock.ts'
import {
  apps,
  camel,
  citation,
  contracts,
  exported,
  families,
  files,
  type Import,
  imports,
  type Manifest,
  manifest,
  type Node,
  packages,
  parse,
  root,
  type Source,
  walk,
} from './source.ts'

const LINES = 400
/** what each package may import; families know of nothing but the layers below them */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  spec: [],
  tensor: ['spec'],
  weight: ['spec', 'tensor'],
  model: ['spec', 'tensor', 'weight'],
  testkit: ['spec', 'tensor', 'weight', 'model'],
  ...Object.fromEntries(families.map((f) => [f, ['spec', 'tensor', 'weight']])),
  mini: ['spec', 'tensor', 'weight', 'model'],
  cli: ['spec', 'tensor', 'weight', 'model', 'mini', ...families],
}
/** Tensor methods that exist only with tfjs's chained ops; none is a method of an array, a set or a map */
const CHAINED = new Set(
  'reshape matMul transpose expandDims squeeze toFloat toInt toBool asType asScalar as1D as2D as3D as4D argMax argMin softmax logSoftmax relu sigmoid tanh tile gather cast square sqrt rsqrt neg mean oneHot clipByValue stridedSlice cumsum unstack mul sub div pow exp log abs sum maximum minimum'.split(
    ' ',
  ),
)

/** one line for each breach in a source file of a package */
export const breaches = (
  source: Source,
  pkg: string,
  {
    dependencies = {},
    peerDependencies = {},
    optionalDependencies = {},
  }: Pick<Manifest, 'dependencies' | 'peerDependencies' | 'optionalDependencies'>,
): string[] => {
  const found: string[] = []
  const { path, text, body } = source
  const at = (n: { start: number }, message: string): void => {
    found.push(`${path}:${text.slice(0, n.start).split('\n').length}: ${message}`)
  }
  const declared = { ...dependencies, ...peerDependencies, ...optionalDependencies }
  for (const { from, types, line } of imports(source)) {
    const say = (message: string): void => {
      found.push(`${path}:${line}: ${message}`)
    }
    if (from.startsWith('.')) {
      if (!/\.(ts|js|json)$/.test(from)) say(`'${from}' lacks its extension`)
      continue
    }
    if (from.startsWith('node:')) continue
    const name = from.split('/', from.startsWith('@') ? 2 : 1).join('/')
    const weft = /^@weftjs\/(.+)$/.exec(name)?.[1]
    if (weft && weft !== pkg && !LAYERS[pkg]?.includes(weft))
      say(`${pkg} may not import ${name}; what it needs arrives as an argument typed in @weftjs/spec`)
    if (weft && from.endsWith('/index')) say(`import '${from.slice(0, -6)}' in place of '${from}'`)
    if (name.startsWith('@tensorflow/') && pkg !== 'tensor' && !(pkg === 'spec' && types))
      say(`only @weftjs/tensor imports ${name}; take the op from there`)
    if (name !== `@weftjs/${pkg}` && !(name in declared))
      say(`${name} is not among the dependencies of packages/${pkg}`)
  }
  const namespaces = new Set<string>(['Math', 'Atomics', 'Reflect', 'Number', 'BigInt'])
  walk(body, (n) => {
    if (n.type === 'ImportNamespaceSpecifier') namespaces.add(n.local.name)
  })
  walk(body, (n) => {
    if (n.type === 'ExportDefaultDeclaration') at(n, 'no default exports: name it')
    if (n.type === 'TSEnumDeclaration') at(n, 'no enums: a union of strings says the same')
    if (/^Class(Declaration|Expression)$/.test(n.type) && !/Error$/.test(n.superClass?.name ?? ''))
      at(n, 'no classes but errors: return a plain object')
    if (n.type === 'CallExpression' && n.callee.type === 'MemberExpression') {
      const { object, property } = n.callee
      const owner = object.type === 'Identifier' ? object.name : ''
      if (owner === 'Math' && property.name === 'random') at(n, 'Math.random: take an Rng as an argument')
      if (owner === 'console' && pkg !== 'cli') at(n, 'no console in packages')
      // i32.mul and its like are instructions of WebAssembly
      if (CHAINED.has(property.name) && !namespaces.has(owner) && !/^([if](32|64)|v128|[if]\d+x\d+)$/.test(owner))
        at(n, `x.${property.name}() is not registered in tfjs-core: write ${property.name}(x)`)
    }
  })
  const lines = text.trimEnd().split('\n').length
  if (lines > LINES && !path.endsWith('.generated.ts'))
    found.push(`${path}: ${lines} lines; a file has at most ${LINES}, split it`)

  const own = exported(source).find((e) => e.name === camel(basename(path, '.ts')))
  const family = families.find((f) => f === pkg && posix.dirname(path) === `packages/${f}/src`)
  if (own && family && family !== 'data' && (contracts[family] as readonly string[]).includes(own.type ?? '')) {
    if (!citation(own.doc))
      found.push(
        `${path}: ${own.name} gives no source; its docstring is: /** equation  —  Authors, arXiv:0000.00000 */`,
      )
    if (['Adapter', 'Codec'].includes(own.type!) && !text.includes(`'${basename(path, '.ts')}'`))
      found.push(`${path}: file, export and name are one: name: '${basename(path, '.ts')}'`)
  }
  return found
}

/** files that a browser would load from here on and that name a node: module */
const nodeInBrowser = (entry: string, resolve: (from: string, specifier: string) => string | undefined): string[] => {
  const seen = new Map<string, string>()
  const queue: [file: string, trail: string][] = [[entry, entry]]
  const found: string[] = []
  for (let next = queue.pop(); next; next = queue.pop()) {
    const [file, trail] = next
    if (seen.has(file)) continue
    seen.set(file, trail)
    const source = parse(file)
    for (const n of source.body as Node[]) {
      if (!n.source || (n.importKind ?? n.exportKind) === 'type') continue
      if (n.specifiers?.length && n.specifiers.every((s: Node) => (s.importKind ?? s.exportKind) === 'type')) continue
      const from: string = n.source.value
      if (from.startsWith('node:'))
        found.push(`${trail}: imports ${from}, which no browser has; import it where it is used`)
      const to = resolve(file, from)
      if (to) queue.push([to, `${trail} > ${to}`])
    }
  }
  return found
}

/** the source file behind an import */
const resolveSource = (from: string, specifier: string): string | undefined => {
  if (specifier.startsWith('.')) return posix.join(posix.dirname(from), specifier)
  const [, pkg, rest] = /^@weftjs\/([^/]+)(?:\/(.+))?$/.exec(specifier) ?? []
  if (!pkg) return undefined
  const entry = manifest(`packages/${pkg}`).exports?.[rest ? `./${rest}` : '.'] as Record<string, string> | undefined
  return posix.join('packages', pkg, entry?.['@weftjs/source'] ?? `src/${rest}.ts`)
}

const manifests = (): string[] => {
  const found: string[] = []
  const all = packages()
  const license = readFileSync(join(root, 'LICENSE'), 'utf8')
  const version = manifest(all[0]!).version
  const ranges = new Map<string, [range: string, where: string]>()
  for (const p of [...all, ...apps(), '.']) {
    const m = manifest(p)
    for (const [name, range] of Object.entries({
      ...m.devDependencies,
      ...m.peerDependencies,
      ...m.dependencies,
      ...m.optionalDependencies,
    })) {
      const clean = range.replace(/^>=(\d+)$/, '^$1')
      const [before, where] = ranges.get(name) ?? [clean, p]
      if (name.startsWith('@weftjs/') && range !== `^${version}`)
        found.push(`${p}: ${name} ${range}; all are ^${version}`)
      else if (minimum(clean) !== minimum(before) && name !== 'vitest')
        found.push(`${p}: ${name} ${range}, but ${before} in ${where}; make them equal`)
      else ranges.set(name, [before, where])
    }
  }
  for (const p of all) {
    const m = manifest(p) as Manifest & { sideEffects?: unknown; files?: string[] }
    const need = (fine: unknown, message: string): void => {
      if (!fine) found.push(`${p}/package.json: ${message}`)
    }
    need(m.name === `@weftjs/${basename(p)}`, `the name is @weftjs/${basename(p)}`)
    need(m.version === version, `version ${m.version}, others ${version}`)
    need(m.description && m.keywords?.length && m.license === 'MIT', 'description, keywords and license are needed')
    need(m.sideEffects === false, 'sideEffects must be false; let nothing happen on import')
    need(m.repository === undefined, 'no repository is known')
    const used = new Set(
      files(`${p}/src`).flatMap((f) => imports(parse(f)).map(({ from }) => from.split('/', 2).join('/'))),
    )
    for (const name of Object.keys(m.dependencies ?? {}))
      need(!name.startsWith('@weftjs/') || used.has(name), `${name} is a dependency that src does not import`)
    for (const file of ['README.md', 'LICENSE']) need(existsSync(join(root, p, file)), `${file} is missing`)
    if (existsSync(join(root, p, 'LICENSE')))
      need(readFileSync(join(root, p, 'LICENSE'), 'utf8') === license, 'LICENSE differs from that of the root')
    for (const [subpath, entry] of Object.entries(m.exports ?? {})) {
      const source = (entry as Record<string, string>)['@weftjs/source']
      if (source && !source.includes('*'))
        need(existsSync(join(root, p, source)), `${subpath} names ${source}, which is missing`)
    }
    for (const index of files(`${p}/src`, '/index.ts')) {
      const folder = dirname(index).slice(`${p}/src`.length)
      const inner = /^\/(gradients|wasm|commands)|\/.*\//.test(folder)
      if (folder && !inner) need(m.exports?.[`.${folder}`], `.${folder} is missing from exports: ${index}`)
    }
  }
  return found
}
const minimum = (range: string): string => {
  const [a = '0', b = '0', c = '0'] = range.replace(/^[\^~>=]+/, '').split('.')
  return [a, b, c].join('.')
}

const git = (...args: string[]): string[] =>
  spawnSync('git', args, { cwd: root, encoding: 'utf8', maxBuffer: 1e8 }).stdout.split('\n').filter(Boolean)

/** paths of a machine and addresses of registries have no place in a public repository; links lead somewhere */
const texts = (): string[] => {
  const found: string[] = []
  // written so that this file does not name them itself
  const hosts = ['registry.', 'npmjs'].join('')
  const machine = new RegExp(
    `(^|[^\\w.@/-])/(${['work', 'root', 'home/[a-z]+'].join('|')})/[\\w.]|${hosts.replace('.', '\\.')}`,
  )
  for (const path of git('ls-files', '--cached', '--others', '--exclude-standard')) {
    if (
      !existsSync(join(root, path)) ||
      !/\.(ts|tsx|mts|mjs|js|py|md|json|yaml|yml|txt|html|css|toml)$|run$/.test(path)
    )
      continue
    if (/\/fixtures\/|examples\/data|tokenizer\.json$/.test(path)) continue
    const text = readFileSync(join(root, path), 'utf8')
    text.split('\n').forEach((line, i) => {
      if (machine.test(line)) found.push(`${path}:${i + 1}: a path or host of one machine: ${line.trim().slice(0, 80)}`)
    })
    if (path === 'package-lock.json' && mended(text) !== text)
      found.push(`${path}: lacks entries of other platforms, or holds addresses; run npm run lock`)
    if (path.endsWith('.md'))
      for (const [, to] of text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)(?:#[^)]*)?\)/g))
        if (!existsSync(join(root, dirname(path), to!))) found.push(`${path}: the link ${to} leads nowhere`)
  }
  const index = join(root, 'docs/decisions/README.md')
  const listed = existsSync(index) ? readFileSync(index, 'utf8') : ''
  for (const file of files('docs/decisions', '.md').map((f) => basename(f)))
    if (file !== 'README.md' && !listed.includes(`(${file})`))
      found.push(`docs/decisions/README.md: ${file} is not listed`)
  return found
}

/** imports of examples and apps go to published names only */
const outside = (source: Source): string[] =>
  imports(source)
    .filter(({ from }: Import) => /packages\/[^/]+\/src/.test(from))
    .map(({ from, line }) => `${source.path}:${line}: '${from}' reaches into a package; import it by name`)

export const check = (): string[] => [
  ...packages().flatMap((p) => {
    const m = manifest(p)
    return files(`${p}/src`)
      .filter((f) => !f.endsWith('.test.ts'))
      .flatMap((f) => breaches(parse(f), basename(p), m))
  }),
  ...packages()
    .filter((p) => !/(cli|testkit)$/.test(p))
    .flatMap((p) => nodeInBrowser(`${p}/src/index.ts`, resolveSource)),
  ...[...files('examples'), ...apps().flatMap((a) => files(`${a}/src`))].flatMap((f) => outside(parse(f))),
  ...manifests(),
  ...texts(),
  ...[...outdated(), ...outdatedModules()].map((path) => `${path}: not as generated; run npm run generate`),
]

if (basename(process.argv[1] ?? '') === 'check.ts') {
  const found = check()
  for (const line of found) console.error(line)
  console.log(
    found.length ? `${found.length} breaches of the rules` : 'layers, style, manifests and links are in order',
  )
  process.exitCode = found.length ? 1 : 0
}
