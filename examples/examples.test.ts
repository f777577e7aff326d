import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
/** what a program prints; it must end well */
const run = (
  file: string,
  env: Record<string, string> = {},
  { args: more = [], cwd = root }: { args?: string[]; cwd?: string } = {},
): Promise<string> =>
  new Promise((done, fail) => {
    const args = ['--import', 'tsx', '--conditions=@weftjs/source', file, ...more]
    const child = spawn(process.execPath, args, { cwd, env: { ...process.env, ...env } })
    let [out, all] = ['', '']
    child.stdout.on('data', (d) => {
      out += d
      all += d
    })
    child.stderr.on('data', (d) => {
      all += d
    })
    child.on('error', fail)
    child.on('close', (code) =>
      code === 0 ? done(out) : fail(new Error(`${file} ended with ${code}:\n${all.slice(-2000)}`)),
    )
  })
const losses = (text: string, pattern: RegExp): number[] => [...text.matchAll(pattern)].map(([, n]) => Number(n))

describe('examples', () => {
  it('are each a page', async () => {
    const lessons = (await readdir(join(root, 'examples'))).filter((f) => /^\d.*\.ts$/.test(f))
    expect(lessons.map((f) => f.slice(0, 2))).toEqual(lessons.map((_, i) => String(i + 1).padStart(2, '0')))
    for (const file of lessons) {
      const lines = (await readFile(join(root, 'examples', file), 'utf8')).trimEnd().split('\n')
      expect(lines.length, file).toBeLessThanOrEqual(40)
    }
  })

  it('01: LoRA lowers the loss', async () => {
    const out = await run('examples/01-lora.ts', { STEPS: '10' })
    expect(out).toMatch(/before: \S/)
    expect(out).toMatch(/after: .*\S/)
    const [first, last] = losses(out, /loss ([\d.]+)/g)
    expect(last!).toBeLessThan(first!)
  })

  it('02: NF4 takes about an eighth of the room and nearly keeps the loss', async () => {
    const out = await run('examples/02-qlora.ts')
    const [, dense, packed] = /([\d.]+) MB dense, ([\d.]+) MB/.exec(out)!.map(Number)
    expect(packed! / dense!).toBeLessThan(0.14)
    const [a, b] = losses(out, /loss ([\d.]+)/g)
    expect(Math.abs(a! - b!)).toBeLessThan(0.25)
  })

  it('03: a method of one’s own starts as the identity and folds', async () => {
    const out = await run('examples/03-your-own-method.ts')
    expect(out).toMatch(/trains: blocks\.0\.mlp\.gate\.row-scale\.s/)
    expect(out).toMatch(/at the start: 0 from/)
    expect(Number(/trained: ([\d.]+)/.exec(out)![1])).toBeGreaterThan(0.01)
    expect(Number(/folded: (\S+) apart/.exec(out)![1])).toBeLessThan(1e-4)
  })
})

describe('a method in a package of its own', () => {
  let out: string
  beforeAll(async () => {
    await mkdir(join(root, '.cache'), { recursive: true })
    out = await mkdtemp(join(root, '.cache', 'diagonals-'))
  })
  afterAll(() => rm(out, { recursive: true, force: true }))
  const weft = (...args: string[]): Promise<string> =>
    run(join(root, 'packages/cli/test/run.ts'), {}, { args, cwd: join(root, 'examples/weft-adapter-diagonals') })

  it('trains from the command line by the name of the package, and what it saves is read again', async () => {
    const short = ['--set', 'train.steps=12', '--set', 'train.length=32', '--set', 'train.batch=2', '--backend', 'wasm']
    await weft('finetune', 'run.yaml', ...short, '--out', out)
    const log = (await readFile(join(out, 'log.jsonl'), 'utf8')).trim().split('\n')
    const loss = log.map((line) => (JSON.parse(line) as { loss: number }).loss)
    expect(loss.slice(-4).reduce((a, b) => a + b)).toBeLessThan(loss.slice(0, 4).reduce((a, b) => a + b))
    const config = JSON.parse(await readFile(join(out, 'adapter_config.json'), 'utf8'))
    expect(config).toMatchObject({
      ...{ peft_type: 'WEFT_DIAGONALS', weft_options: { pairs: 4, scale: 1 }, weft_package: 'weft-adapter-diagonals' },
    })
    const score = async (...more: string[]): Promise<number> =>
      JSON.parse(
        await weft('score', 'mini', '--text', 'The sea is a grey cat.', '--json', '--backend', 'wasm', ...more),
      ).loss
    const [tuned, plain] = [await score('--adapter', out), await score()]
    expect(tuned).not.toBe(plain)
    expect(JSON.parse(await weft('inspect', out, '--json'))).toMatchObject({ kind: 'adapter', method: 'diagonals' })
  }, 180_000)
})

describe('the README', () => {
  let folder: string
  beforeAll(async () => {
    await mkdir(join(root, '.cache'), { recursive: true })
    folder = await mkdtemp(join(root, '.cache', 'readme-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  it('shows code that runs and learns', async () => {
    const readme = await readFile(join(root, 'README.md'), 'utf8')
    const code = /<!-- example -->\n```ts\n([\s\S]*?)```/.exec(readme)![1]!
    const lines = code.split('\n').filter((l) => l.trim() && !l.startsWith('import'))
    expect(lines.length).toBeLessThanOrEqual(15)
    const file = join(folder, 'readme.mts')
    await writeFile(file, code)
    const out = await run(file)
    const found = losses(out, /^\d+ ([\d.]+)$/gm)
    expect(found).toHaveLength(20)
    expect(found.at(-1)!).toBeLessThan(found[0]!)
    expect(out).toMatch(/text: ['"`].*\w/)
  })
})
