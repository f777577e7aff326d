import { spawn } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const mini = JSON.stringify(join(root, 'packages/mini/model'))

/**
 * What the samples of the READMEs speak of without making it, by name: a sample that uses one and neither imports nor
 * makes it is given it.
 */
const GIVEN: Readonly<Record<string, string>> = {
  network: `const { network } = await (await import('@weftjs/mini')).loadMini()`,
  dense: `const { network: dense } = await (await import('@weftjs/mini')).loadMini()`,
  tokenizer: `const { tokenizer } = await (await import('@weftjs/mini')).loadMini()`,
  folder: `const folder = (await import('@weftjs/tensor/checkpoint/file')).nodeFolder('model')`,
  file: `const file = new File(['{"prompt": "a", "completion": " b", "question": "c", "answer": "d"}\\n'.repeat(40)], 'rows.jsonl')`,
  out: `const out = '.'`,
  create: `const create = (await import('@weftjs/tensor/checkpoint')).blobSinks().open`,
  batches: `const batches: import('@weftjs/spec').Batch[] = [{ shape: [1, 8], ids: Int32Array.of(3, 4, 5, 6, 7, 8, 9, 10), targets: Int32Array.of(4, 5, 6, 7, 8, 9, 10, -100), positions: Int32Array.from({ length: 8 }, (_, i) => i), segments: new Int32Array(8).fill(1) }]`,
  yaml: `const yaml = 'merge_method: linear\\nparameters: { weight: 1 }\\nmodels: [{ model: model }, { model: model }]\\n'`,
  config: `const config = { merge_method: 'half', base_model: 'model', models: [{ model: 'model' }] }`,
  write: `const write = async (plan: import('@weftjs/merge').MergePlan): Promise<number> => plan.tensors.length`,
  params: `const params: Record<string, import('@weftjs/spec').Tensor> = { w: (await import('@weftjs/tensor')).zeros([2]) }`,
  data: `const data = (async function* () { yield* [1, 2, 3] })()`,
  lossOf: `const lossOf = ({ w }: import('@weftjs/spec').Params): import('@weftjs/spec').Scalar => $t.sum($t.square($t.sub(w!, 1))) as never`,
  chart: `const chart = (...said: unknown[]): void => void said`,
  step: `const step = (...said: unknown[]): void => void said`,
  show: `const show = (said: string): void => void said`,
  w: `const w = $t.rng(0).normal([8, 4]) as import('@weftjs/spec').Tensor2D`,
  a: `const a = $t.rng(1).normal([2, 4]) as import('@weftjs/spec').Tensor2D`,
  b: `const b = $t.rng(2).normal([8, 2]) as import('@weftjs/spec').Tensor2D`,
  x: `const x = $t.rng(3).normal([3, 4])`,
}
/** of one sample alone */
const OWN: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'lora-1': { folder: `const folder = (await import('@weftjs/tensor/checkpoint/file')).nodeFolder('adapter')` },
  'merge-1': {
    open: `const open = async (model: string) => (await import('@weftjs/tensor/checkpoint')).openCheckpoint((await import('@weftjs/tensor/checkpoint/file')).nodeFolder(model))`,
  },
}
/** what registers tests of its own, has nothing to run, or is run by another test: its types alone are looked at */
const TYPES_ONLY = /^(testkit|spec|root)-/

interface Sample {
  readonly name: string
  readonly code: string
}
const samplesOf = async (): Promise<Sample[]> => {
  const packages = await readdir(join(root, 'packages'))
  const found: Sample[] = []
  for (const [name, path] of [['root', 'README.md'], ...packages.map((p) => [p, `packages/${p}/README.md`])]) {
    const text = await readFile(join(root, path!), 'utf8').catch(() => '')
    for (const [i, [, code]] of [...text.matchAll(/```ts\n([\s\S]*?)```/g)].entries())
      found.push({ name: `${name}-${i}`, code: code! })
  }
  return found
}

/** the sample as a module that stands by itself */
const whole = ({ name, code }: Sample): string => {
  const bare = code.replace(/\/\/.*$/gm, '').replace(/'[^']*'/g, '')
  const made = new Set(
    [...bare.matchAll(/(?:import|const|for \(const|for await \(const) (?:type )?(\{[^}]*\}|\[[^\]]*\]|\w+)/g)].flatMap(
      ([, names]) => names!.match(/\w+/g) ?? [],
    ),
  )
  const given = Object.entries({ ...GIVEN, ...OWN[name] }).flatMap(([word, line]) =>
    new RegExp(`(?<![.\\w])${word}(?![\\w:]|\\s*=>)`).test(bare) && !made.has(word) ? [line] : [],
  )
  return [
    `import * as $t from '@weftjs/tensor'`,
    'void $t',
    ...given,
    code.replace('path/or/org/name@revision', 'model').replace("'examples/data", `'${root}examples/data`),
    'export {}',
  ].join('\n')
}

const run = (args: readonly string[], cwd: string): Promise<{ code: number; out: string }> =>
  new Promise((done, fail) => {
    const child = spawn(process.execPath, args, { cwd })
    let out = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (d) => {
        out += d
      })
    child.on('error', fail)
    child.on('close', (code) => done({ code: code ?? -1, out }))
  })

let scratch: string
let samples: Sample[]
beforeAll(async () => {
  await mkdir(join(root, '.cache'), { recursive: true })
  scratch = await mkdtemp(join(root, '.cache', 'readmes-'))
  await mkdir(join(scratch, 'test'))
  await mkdir(join(scratch, 'src'))
  await writeFile(join(scratch, 'src/mine.ts'), "export { lora as mine } from '@weftjs/lora'\n")
  await writeFile(
    join(scratch, 'tsconfig.json'),
    JSON.stringify({ extends: '../../tsconfig.json', include: ['test/*', 'src/*'] }),
  )
  samples = await samplesOf()
  for (const sample of samples) await writeFile(join(scratch, `test/${sample.name}.ts`), whole(sample))
})
afterAll(() => rm(scratch, { recursive: true, force: true }))

it('every sample of the READMEs has its types', async () => {
  expect(samples.length).toBeGreaterThan(18)
  const { code, out } = await run(
    [join(root, 'node_modules/typescript/bin/tsc'), '--noEmit', '-p', join(scratch, 'tsconfig.json')],
    root,
  )
  expect({ code, out }).toEqual({ code: 0, out: '' })
}, 120_000)

it('every sample of the READMEs runs', async () => {
  const runs = samples.filter(({ name }) => !TYPES_ONLY.test(name)).map(({ name }) => name)
  await cp(JSON.parse(mini) as string, join(scratch, 'model'), { recursive: true })
  await writeFile(
    join(scratch, 'all.ts'),
    `import { lora, savePeft } from '@weftjs/lora'
import { loadMini } from '@weftjs/mini'
import { attach } from '@weftjs/model'
import { rng, wasm } from '@weftjs/tensor'
import { fileSink } from '@weftjs/tensor/checkpoint/file'
import { mkdir } from 'node:fs/promises'
await wasm()
for (const folder of ['adapter', 'merged']) await mkdir(folder, { recursive: true })
const tuned = attach((await loadMini()).network, [{ adapter: lora({ rank: 2 }), at: '**.q' }], rng(0))
await savePeft((file) => fileSink('adapter/' + file), tuned, tuned.params, { base: 'mini' })
for (const name of ${JSON.stringify(runs)}) {
  const began = performance.now()
  try { await import('./test/' + name + '.ts') } catch (error) { console.log('\\nFAILED', name, error) }
  console.log('\\nRAN', name, Math.round(performance.now() - began))
}
process.exit(0)
`,
  )
  const { out } = await run(['--import', 'tsx', '--conditions=@weftjs/source', 'all.ts'], scratch)
  expect(out.match(/^FAILED.*$/gm) ?? [], out).toEqual([])
  expect(out.match(/^RAN \S+/gm)).toEqual(runs.map((name) => `RAN ${name}`))
}, 300_000)
