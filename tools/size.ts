/** `npm run size`: what each subpath weighs in a browser's bundle, minified and gzipped, with tfjs counted apart, and what must not be in it. */
import { readdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { allMethods, packages, root } from './source.ts'

export interface Bundle {
  readonly name: string
  /** bytes of our own code, tfjs left out */
  readonly own: number
  readonly gzip: number
  /** with tfjs-core and all else */
  readonly whole: number
  /** files from which code came */
  readonly inputs: readonly string[]
}

const TFJS = ['@tensorflow/*']
const NATIVE = [
  'koffi',
  'webgpu',
  'node:*',
  'fs',
  'path',
  'module',
  'stream',
  'worker_threads',
  'perf_hooks',
  'os',
  'crypto',
  'util',
]
const pack = async (code: string, external: readonly string[]) => {
  const { outputFiles, metafile } = await build({
    stdin: { contents: code, resolveDir: join(root, 'tools'), loader: 'ts' },
    bundle: true,
    write: false,
    minify: true,
    metafile: true,
    splitting: true,
    outdir: join(root, '.cache/size'),
    format: 'esm',
    platform: 'browser',
    conditions: ['@weftjs/source', 'module'],
    mainFields: ['module', 'main'],
    loader: { '.wasm': 'empty', '.safetensors': 'empty', '.json': 'json' },
    external: [...external],
    logLevel: 'silent',
  })
  // what a page loads at once: the entry and what it imports statically
  const entry = Object.entries(metafile.outputs).find(([, o]) => o.entryPoint === '<stdin>')![0]
  const wanted = new Set<string>([entry])
  for (const path of wanted)
    for (const i of metafile.outputs[path]!.imports)
      if (i.kind === 'import-statement' && !i.external) wanted.add(i.path)
  const chunks = outputFiles.filter((f) => [...wanted].some((w) => basename(w) === basename(f.path)))
  const inputs = [...wanted].flatMap((w) =>
    Object.entries(metafile.outputs[w]!.inputs)
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .map(([path]) => path),
  )
  return {
    /** every file of the bundle by its name, the entry first */
    files: [...outputFiles]
      .sort((a, b) => Number(basename(b.path) === basename(entry)) - Number(basename(a.path) === basename(entry)))
      .map((f): [name: string, text: string] => [basename(f.path), f.text]),
    bytes: chunks.reduce((n, f) => n + f.contents.length, 0),
    gzip: chunks.reduce((n, f) => n + gzipSync(f.contents).length, 0),
    inputs: inputs.sort(),
  }
}

/** a bundle of some code that imports packages by name */
export const bundle = async (
  name: string,
  code: string,
): Promise<Bundle & { readonly files: readonly (readonly [name: string, text: string])[] }> => {
  const own = await pack(code, [...TFJS, ...NATIVE])
  const whole = await pack(code, NATIVE)
  return { name, own: own.bytes, gzip: own.gzip, whole: whole.gzip, inputs: whole.inputs, files: whole.files }
}
const everything = (specifier: string): string => `export * from '${specifier}'`

/** files that a bundle must not hold, by a part of their path */
export const FORBIDDEN: Readonly<Record<string, readonly string[]>> = {
  '@weftjs/lora/lora': [
    'tfjs-backend',
    '/gradients/',
    '/checkpoint/',
    '/linalg/',
    'packages/model',
    'peft',
    'huggingface',
  ],
  '@weftjs/tensor/ops': ['tfjs-backend', '/gradients/', '/checkpoint/', '/kernels/'],
  '@weftjs/tensor/checkpoint': ['tfjs', 'node:'],
  '@weftjs/data/pack': ['tfjs', 'parquet', 'papaparse'],
  '@weftjs/optim/adamw': ['tfjs-backend', '/checkpoint/', '/linalg/'],
}
/** files of a bundle that it must not hold */
export const intruders = ({ name, inputs }: Bundle): string[] =>
  (FORBIDDEN[name] ?? []).flatMap((part) =>
    inputs.filter((path) => path.includes(part)).map((path) => `${name} holds ${path}`),
  )

const exists = (p: string): boolean => readdirSync(join(root, p, 'src')).includes('index.ts')
const kb = (bytes: number): string => `${(bytes / 1024).toFixed(1)} kB`

if (basename(process.argv[1] ?? '') === 'size.ts') {
  const names = [
    ...packages()
      .filter((p) => exists(p) && !/(cli|testkit|spec)$/.test(p))
      .map((p) => `@weftjs/${basename(p)}`),
    ...Object.keys(FORBIDDEN),
    ...allMethods().map((m) => m.subpath),
  ]
  const rows: Record<string, object> = {}
  const found: string[] = []
  for (const name of [...new Set(names)]) {
    const b = await bundle(name, everything(name))
    rows[name] = { minified: kb(b.own), 'min+gzip': kb(b.gzip), 'with tfjs, min+gzip': kb(b.whole) }
    found.push(...intruders(b))
  }
  const only = await bundle(
    'only LoRA',
    "import { lora } from '@weftjs/lora/lora'\nglobalThis.make = () => lora({ rank: 8 })",
  )
  rows['a page that calls lora() alone'] = {
    minified: kb(only.own),
    'min+gzip': kb(only.gzip),
    'with tfjs, min+gzip': kb(only.whole),
  }
  console.table(rows)
  for (const line of found) console.error(line)
  process.exitCode = found.length ? 1 : 0
}
