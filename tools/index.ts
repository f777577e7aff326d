/** `npm run generate`: tables, llms.txt and the list for `weft list`, all from the directory listing. With `--check`, only says what differs. */
import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative } from 'node:path'
import { benchTable } from './bench-table.ts'
import { claimsTable } from './claims-table.ts'
import { quantPlot } from './quant-plot.ts'
import { PLOT, quantTable } from './quant-table.ts'
import {
  allMethods,
  camel,
  citation,
  exported,
  families,
  files,
  type Method,
  manifest,
  packages,
  parse,
  read,
  root,
} from './source.ts'

const cell = (text: string): string => text.replaceAll('|', '\\|')
const linked = (paper: string): string =>
  cell(paper).replace(/arXiv:(\d{4}\.\d{4,5})/g, '[arXiv:$1](https://arxiv.org/abs/$1)')
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n')

const methodTable = (methods: readonly Method[], from: string, family: boolean): string =>
  table(
    ['method', ...(family ? ['family'] : []), 'what', 'paper or format'],
    methods.map((m) => [
      `[\`${m.name}\`](${relative(from, m.file)})`,
      ...(family ? [m.family] : []),
      cell(m.equation),
      linked(m.paper),
    ]),
  )
const packageTable = (): string =>
  table(
    ['package', 'what'],
    packages().map((p) => [`[\`${manifest(p).name}\`](${p})`, cell(manifest(p).description ?? '')]),
  )

/** the text with what stands between `<!-- name -->` and `<!-- /name -->` replaced */
const between = (path: string, name: string, content: string, text: string = read(path)): string => {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`]
  const [start, end] = [text.indexOf(open), text.indexOf(close)]
  if (start < 0 || end < start) throw new Error(`${path}: the markers ${open} and ${close} are missing; add them`)
  return `${text.slice(0, start + open.length)}\n${content}\n${text.slice(end)}`
}

/** formatted as the rest of the sources */
const formatted = (path: string, text: string): string => {
  const { stdout, status, stderr } = spawnSync(
    join(root, 'node_modules/.bin/biome'),
    ['check', '--write', `--stdin-file-path=${path}`],
    { cwd: root, input: text, encoding: 'utf8' },
  )
  if (status !== 0) throw new Error(`${path}: ${stderr}`)
  return stdout
}

const llms = (methods: readonly Method[]): string => `# Weft

> ${manifest('.').description}

A method is one file that exports one factory of its own name. The contracts are in packages/spec/src/index.ts. How to add a method: CONTRIBUTING.md.

## Packages

${packages()
  .map((p) => `- [${manifest(p).name}](${p}/README.md): ${manifest(p).description}`)
  .join('\n')}

## Methods

${methods.map((m) => `- [${m.subpath} ${m.name}](${m.file}): ${m.equation} (${m.paper})`).join('\n')}
`

const listing = (
  methods: readonly Method[],
): string => `// Written by \`npm run generate\` from the families' docstrings.

export interface Method {
  readonly name: string
  readonly family: string
  /** what it computes, in a line */
  readonly equation: string
  /** authors and arXiv number, or the format's definition */
  readonly paper: string
  readonly file: string
  readonly subpath: string
  /** of an adapter: the names of its options */
  readonly options?: readonly string[]
  /** of an adapter that PEFT has: what it is there */
  readonly peft?: string
}

export const methods: readonly Method[] = ${JSON.stringify(methods)}
`

/** the methods of a package's index, one line for each file of its folder */
const methodExports = (path: string): string => {
  const [open, close] = ['// methods, written by `npm run generate`\n', '// end of methods']
  const text = read(path)
  const [start, end] = [text.indexOf(open), text.indexOf(close)]
  if (start < 0 || end < start) throw new Error(`${path}: the comments around the methods are missing; add them`)
  const lines = files(dirname(path))
    .filter((f) => dirname(f) === dirname(path) && f !== path)
    .map((f) => {
      const source = parse(f)
      const types = source.body
        .filter(
          (n) => n.type === 'ExportNamedDeclaration' && /^TS(Interface|TypeAlias)/.test(n.declaration?.type ?? ''),
        )
        .map((n) => n.declaration.id.name as string)
      const own = camel(basename(f, '.ts'))
      const values = exported(source)
        .map((e) => e.name)
        .filter((name) => name === own || citation(exported(source).find((e) => e.name === name)!.doc))
      return `export { ${[...types.map((t) => `type ${t}`), ...values].join(', ')} } from './${basename(f)}'\n`
    })
  // comments with an empty line behind them: the formatter sorts exports only between such
  return formatted(path, `${text.slice(0, start + open.length)}\n${lines.join('')}\n${text.slice(end)}`)
}
/** a list of formats, from their folder */
const formatList = (folder: string, type: string, from: string, what: string): string => {
  const names = files(folder)
    .filter((f) => exported(parse(f)).some((e) => e.name === 'format' && e.type === type))
    .map((f) => basename(f, '.ts'))
  return formatted(
    `${folder}/index.ts`,
    `// Written by \`npm run generate\` from this folder.
import type { ${type} } from '${from}'
${names.map((n) => `import { format as ${camel(n)} } from './${n}.ts'`).join('\n')}

/** ${what} */
export const formats: readonly ${type}[] = [${names.map(camel).join(', ')}]
`,
  )
}
/** every codec by its name, for files that name them */
const codecList = (path: string, methods: readonly Method[]): string =>
  formatted(
    path,
    `// Written by \`npm run generate\` from the codecs of this package.
import type { Codec } from '@weftjs/spec'
${methods.map((m) => `import { ${m.name} } from '${relative(dirname(path), m.file)}'`).join('\n')}

/** factories by the names that their codecs have */
export const codecs: Readonly<Record<string, (options?: any) => Codec<any>>> = {
${methods.map((m) => `${basename(m.file, '.ts') === m.name ? m.name : `'${basename(m.file, '.ts')}': ${m.name}`},`).join('\n')}
}
`,
  )

/** path and text of every generated file */
export const generated = (): [path: string, text: string][] => {
  const methods = allMethods()
  const figures = between('README.md', 'bench', benchTable(table, { from: '.', all: false }))
  const plot = quantPlot()
  const readme = between('README.md', 'packages', packageTable(), figures)
  return [
    ['README.md', between('README.md', 'methods', methodTable(methods, '.', true), readme)],
    ...families.map((f): [string, string] => {
      const path = `packages/${f}/README.md`
      const own = methods.filter((m) => m.family === f)
      const text = between(path, 'methods', methodTable(own, `packages/${f}`, false))
      const compared = text.includes('<!-- claims -->')
      const claims = (): string =>
        f === 'quant' ? quantTable(table, `packages/${f}`) : claimsTable(table, f, `packages/${f}`, own)
      return [path, compared ? between(path, 'claims', claims(), text) : text]
    }),
    ['bench/README.md', between('bench/README.md', 'bench', benchTable(table, { from: 'bench', all: true }))],
    ['packages/lora/src/index.ts', methodExports('packages/lora/src/index.ts')],
    [
      'packages/lora/src/peft/formats/index.ts',
      formatList(
        'packages/lora/src/peft/formats',
        'PeftFormat',
        '../format.ts',
        'every method that PEFT has and we have',
      ),
    ],
    [
      'packages/quant/src/formats/index.ts',
      formatList('packages/quant/src/formats', 'PackedFormat', './format.ts', 'every layout of packed weights'),
    ],
    [
      'packages/quant/src/formats/codecs.ts',
      codecList(
        'packages/quant/src/formats/codecs.ts',
        methods.filter((m) => /^packages\/quant\/src\/[^/]+\.ts$/.test(m.file)),
      ),
    ],
    ...(plot === undefined ? [] : [[PLOT, plot] as [string, string]]),
    ['llms.txt', llms(methods)],
    ['packages/cli/src/methods.generated.ts', formatted('packages/cli/src/methods.generated.ts', listing(methods))],
  ]
}

/** generated files that are not as they would be written now */
export const outdated = (): string[] =>
  generated()
    .filter(([path, text]) => !existsSync(join(root, path)) || read(path) !== text)
    .map(([path]) => path)

if (basename(process.argv[1] ?? '') === 'index.ts') {
  if (process.argv.includes('--check')) {
    const old = outdated()
    for (const path of old) console.error(`${path}: not as generated; run npm run generate`)
    process.exitCode = old.length ? 1 : 0
  } else for (const [path, text] of generated()) writeFileSync(join(root, path), text)
}
