/** What the checks and generators know of the repository: packages, source files, exports and their docstrings. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseSync } from 'oxc-parser'

export const root: string = fileURLToPath(new URL('..', import.meta.url))

export interface Manifest {
  readonly name: string
  readonly version: string
  readonly description?: string
  readonly license?: string
  readonly keywords?: readonly string[]
  readonly repository?: unknown
  readonly private?: boolean
  readonly exports?: Readonly<Record<string, unknown>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}
export const read = (path: string): string => readFileSync(join(root, path), 'utf8')
export const manifest = (folder: string): Manifest => JSON.parse(read(join(folder, 'package.json')))

const folders = (parent: string): string[] =>
  existsSync(join(root, parent))
    ? readdirSync(join(root, parent))
        .filter((n) => existsSync(join(root, parent, n, 'package.json')))
        .map((n) => `${parent}/${n}`)
    : []
/** `packages/lora`, ... in the order of their layers */
export const packages = (): string[] => {
  const order = ['spec', 'tensor', 'weight', 'model', 'testkit', ...families, 'mini', 'cli']
  return folders('packages').sort((a, b) => order.indexOf(basename(a)) - order.indexOf(basename(b)))
}
export const apps = (): string[] => folders('apps')
/** Method families, and the contracts that their methods' factories return. */
export const contracts = {
  lora: ['Adapter'],
  quant: ['Codec'],
  merge: ['Merge'],
  optim: ['Transform', 'Estimator', 'Schedule', 'Choice'],
  data: ['Stage', 'AsyncIterable'],
} as const
export type Family = keyof typeof contracts
export const families = Object.keys(contracts) as Family[]

/** files under a folder by their ending, sorted, as paths from the root */
export const files = (folder: string, ending = '.ts'): string[] =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((f) => f.endsWith(ending) && !/(^|\/)(node_modules|dist|fixtures)\//.test(f))
        .map((f) => `${folder}/${f}`)
        .sort()
    : []

export type Node = any
export interface Source {
  readonly path: string
  readonly text: string
  readonly body: readonly Node[]
  /** the block comment that ends right before an offset */
  doc(start: number): string
}
export const parse = (path: string, text: string = read(path)): Source => {
  const { program, comments, errors } = parseSync(path, text)
  if (errors.length) throw new Error(`${path}: ${errors[0]!.message}`)
  const doc = (start: number): string => {
    const found = comments.findLast((c) => c.end <= start)
    if (found?.type !== 'Block' || text.slice(found.end, start).trim()) return ''
    return found.value.replace(/^\s*\*+ ?/gm, '').trim()
  }
  return { path, text, body: program.body, doc }
}
/** calls `visit` on every node of a tree */
export const walk = (node: Node, visit: (node: Node) => void): void => {
  if (Array.isArray(node)) for (const n of node) walk(n, visit)
  else if (node && typeof node === 'object') {
    if (typeof node.type === 'string') visit(node)
    for (const key in node) if (key !== 'parent') walk(node[key], visit)
  }
}

export interface Import {
  readonly from: string
  readonly types: boolean
  readonly line: number
}
/** every static or dynamic import and re-export of a file */
export const imports = ({ body, text }: Source): Import[] => {
  const found: Import[] = []
  walk(body, (n) => {
    const source = n.type === 'TSImportType' ? (n.source ?? n.argument?.literal) : n.source
    if (typeof source?.value !== 'string') return
    const types =
      n.type === 'TSImportType' ||
      (n.importKind ?? n.exportKind) === 'type' ||
      (n.specifiers?.length > 0 && n.specifiers.every((s: Node) => (s.importKind ?? s.exportKind) === 'type'))
    found.push({ from: source.value, types, line: text.slice(0, n.start).split('\n').length })
  })
  return found
}

export interface Exported {
  readonly name: string
  readonly doc: string
  /** the type that it is, or that a call of it returns */
  readonly type?: string
}
const typeName = (annotation: Node): string | undefined => annotation?.typeAnnotation?.typeName?.name
/** the exported constants of a file */
export const exported = (source: Source): Exported[] =>
  source.body
    .filter((n) => n.type === 'ExportNamedDeclaration' && n.declaration?.type === 'VariableDeclaration')
    .flatMap((n) =>
      n.declaration.declarations.map((d: Node) => {
        let f = d.init
        // a decorator returns a function that returns a function
        while (f?.type === 'ArrowFunctionExpression' && !f.returnType && f.body?.type === 'ArrowFunctionExpression')
          f = f.body
        const type = typeName(f?.returnType) ?? typeName(d.id.typeAnnotation)
        return { name: d.id.name as string, doc: source.doc(n.start), ...(type && { type }) }
      }),
    )

export const camel = (name: string): string => name.replace(/-([a-z0-9])/g, (_, c: string) => c.toUpperCase())

export interface Method {
  readonly name: string
  readonly family: Family
  /** what it computes, in a line */
  readonly equation: string
  /** authors and arXiv number, or the format's definition */
  readonly paper: string
  readonly file: string
  readonly subpath: string
  /** of an adapter or a codec: the names of its options */
  readonly options?: readonly string[]
  /** of an adapter that PEFT has: what it is there */
  readonly peft?: string
}
/** `equation  —  source` */
export const citation = (doc: string): { equation: string; paper: string } | undefined => {
  const line = doc.split('\n').find((l) => l.includes(' — ') || l.includes('  —  '))
  const [, equation, paper] = /^(.*?)\s{2}—\s{2}(.*)$/.exec(line ?? '') ?? []
  return equation && paper ? { equation: equation.trim(), paper: paper.trim().replace(/[.,;]$/, '') } : undefined
}
/** Every exported factory of a family's contract whose docstring gives its source; read from the directory listing alone. */
export const methods = (family: Family): Method[] =>
  readdirSync(join(root, 'packages', family, 'src'))
    .filter((f) => f.endsWith('.ts') && f !== 'index.ts')
    .sort()
    .flatMap((f) => {
      const file = `packages/${family}/src/${f}`
      return exported(parse(file))
        .filter(({ type }) => (contracts[family] as readonly string[]).includes(type ?? ''))
        .flatMap(({ name, doc }) => {
          const cited = citation(doc)
          const subpath = `@weftjs/${family}/${basename(f, '.ts')}`
          return cited ? [{ name, family, ...cited, file, subpath }] : []
        })
    })
/** Methods that live elsewhere than in the family that people look for them in: their docstring says `@family lora`. */
export const guests = (): Method[] =>
  ['model', 'weight', ...families].flatMap((pkg) =>
    files(`packages/${pkg}/src`).flatMap((file) =>
      exported(parse(file)).flatMap(({ name, doc }) => {
        const family = /@family (\w+)/.exec(doc)?.[1] as Family | undefined
        const cited = citation(doc)
        if (!family || !cited) return []
        const deep = file.slice(`packages/${pkg}/src/`.length, -'.ts'.length)
        return [{ name, family, ...cited, file, subpath: pkg === 'model' ? '@weftjs/model' : `@weftjs/${pkg}/${deep}` }]
      }),
    ),
  )
const nameOf = (node: Node): string | undefined => node?.name ?? node?.typeName?.name ?? node?.expression?.name
const literals = (type: Node): string[] =>
  (type?.type === 'TSUnionType' ? type.types : [type]).map((t: Node) => String(t?.literal?.value))
/** the keys of an object type, through `extends`, `Omit`, `Pick` and what other files of ours declare */
const keysOf = (source: Source, type: Node): string[] => {
  const inner = type?.typeArguments?.params ?? type?.typeParameters?.params ?? []
  const name = nameOf(type)
  if (type?.type === 'TSIntersectionType') return type.types.flatMap((t: Node) => keysOf(source, t))
  if (type?.type === 'TSTypeLiteral') return type.members.flatMap((m: Node) => m.key?.name ?? [])
  if (name === undefined) return []
  if (name === 'Omit') return keysOf(source, inner[0]).filter((k) => !literals(inner[1]).includes(k))
  if (name === 'Pick') return literals(inner[1])
  if (['Readonly', 'Partial', 'Required'].includes(name)) return keysOf(source, inner[0])
  for (const n of source.body) {
    const d = n.declaration ?? n
    if (d.type === 'TSInterfaceDeclaration' && d.id.name === name)
      return [
        ...(d.extends ?? []).flatMap((e: Node) => keysOf(source, e)),
        ...d.body.body.flatMap((m: Node) => m.key?.name ?? []),
      ]
    if (d.type === 'TSTypeAliasDeclaration' && d.id.name === name) return keysOf(source, d.typeAnnotation)
    if (n.type === 'ImportDeclaration' && n.source.value.startsWith('.')) {
      const found = n.specifiers.find((s: Node) => s.local?.name === name)
      if (found) return keysOf(parse(join(source.path, '..', n.source.value)), { name: found.imported.name })
    }
  }
  return []
}
/** the options that an exported factory takes, by the type of its first parameter */
export const optionsOf = (file: string, factory: string): string[] => {
  const source = parse(file)
  for (const n of source.body)
    for (const d of n.declaration?.declarations ?? [])
      if (d.id.name === factory) {
        const first = d.init?.params?.[0]
        const type = (first?.left ?? first)?.typeAnnotation?.typeAnnotation
        return [...new Set(keysOf(source, type))].sort()
      }
  return []
}
/** what PEFT calls a method: its `peft_type`, from the formats that we read and write */
const peftNames = (): ReadonlyMap<string, string> =>
  new Map(
    files('packages/lora/src/peft/formats').flatMap((file) => {
      const text = read(file)
      const [method, type] = [/^ {2}method: '([\w-]+)'/m.exec(text)?.[1], /^ {2}type: '(\w+)'/m.exec(text)?.[1]]
      return method && type ? [[method, type] as const] : []
    }),
  )
export const allMethods = (): Method[] => {
  const strangers = guests()
  const peft = peftNames()
  const known = (m: Method): Method => {
    const name = basename(m.file, '.ts')
    if (!(m.family === 'lora' || m.family === 'quant') || camel(name) !== m.name) return m
    const type = peft.get(name)
    return { ...m, options: optionsOf(m.file, m.name), ...(type && { peft: type }) }
  }
  return listed(strangers).map(known)
}
const listed = (strangers: readonly Method[]): Method[] => {
  const own = families.flatMap(methods).filter((m) => !strangers.some((g) => g.file === m.file && g.name === m.name))
  return families.flatMap((f) => [...own, ...strangers].filter((m) => m.family === f))
}
