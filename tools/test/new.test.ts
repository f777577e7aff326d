import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { breaches } from '../check.ts'
import { newMethod, readArguments } from '../new.ts'
import { citation, contracts, exported, families, manifest, parse, root } from '../source.ts'

describe('the arguments of npm run new', () => {
  it.each([
    [
      ['lora/unheard', '--paper', '2402.09353'],
      { family: 'lora', file: 'unheard', paper: 'Authors, arXiv:2402.09353' },
    ],
    [
      ['merge/task-sum', '--paper', 'arXiv:2402.09353', '--authors', 'Liu et al.'],
      { family: 'merge', file: 'task-sum', paper: 'Liu et al., arXiv:2402.09353' },
    ],
    [['data/toml', '--paper', 'TOML 1.0'], { family: 'data', file: 'toml', paper: 'TOML 1.0' }],
  ])('%j', (args, wanted) => {
    expect(readArguments(args)).toEqual(wanted)
  })
  it.each([
    [['unheard'], /usage/],
    [[], /usage/],
    [['lora/a/b', '--paper', 'x'], /usage/],
    [['prompt/prefix', '--paper', '2101.00190'], /no family 'prompt'; there are lora/],
    [['lora/DoRA', '--paper', '2402.09353'], /'DoRA' is no name/],
    [['lora/../x', '--paper', '2402.09353'], /usage|no name/],
    [['lora/lora', '--paper', '2106.09685'], /is there already/],
    [['lora/unheard'], /--paper is missing/],
  ])('refuses %j', (args, message) => {
    expect(() => readArguments(args)).toThrow(message)
  })
})

describe('what npm run new writes', () => {
  const made = families.map((family) => ({
    family,
    ...newMethod({ family, file: 'toy-method', paper: 'Toy et al., arXiv:2401.01234' }, false),
  }))
  // beside the packages, not in them: other tests are reading those
  const cache = join(root, '.cache')
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, 'new-'))
  const bin = (name: string, ...args: string[]) =>
    spawnSync(join(root, 'node_modules/.bin', name), args, { cwd: folder, encoding: 'utf8' })

  beforeAll(() => {
    for (const { family, files } of made) {
      cpSync(join(root, 'packages', family, 'src'), join(folder, 'packages', family, 'src'), { recursive: true })
      mkdirSync(join(folder, 'packages', family, 'test'))
      for (const [path, text] of Object.entries(files))
        if (path.endsWith('.ts')) writeFileSync(join(folder, path), text, { flag: 'wx' })
    }
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        extends: '../../tsconfig.json',
        compilerOptions: { isolatedDeclarations: false },
        include: ['packages/*/*/toy-method*.ts'],
      }),
    )
    const conditions = JSON.stringify(['@weftjs/source', 'module', 'node', 'import', 'default'])
    writeFileSync(
      join(folder, 'vitest.config.mjs'),
      `export default { resolve: { conditions: ${conditions} }, ssr: { resolve: { conditions: ${conditions} } } }`,
    )
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it.each(made)('for $family: a method that the listing reads, an export, a changeset', ({ family, files, line }) => {
    const [source, test, changeset] = Object.values(files)
    const method = exported(parse('toy-method.ts', source!)).find(({ name }) => name === 'toyMethod')
    expect(contracts[family]).toContain(method!.type)
    expect(citation(method!.doc)).toMatchObject({ paper: 'Toy et al., arXiv:2401.01234' })
    expect(test).toContain("from '../src/toy-method.ts'")
    expect(line).toMatch(/toyMethod } from '\.\/toy-method\.ts'\n$/)
    expect(changeset).toMatch(`'@weftjs/${family}': minor`)
  })

  it('type-checks', () => {
    const { stdout } = bin('tsc', '--noEmit', '-p', 'tsconfig.json')
    expect(stdout.split('\n').filter((l) => l.includes('toy-method'))).toEqual([])
  })

  it('keeps the house style', () => {
    for (const { family, files } of made) {
      const [path, text] = Object.entries(files)[0]!
      expect(breaches(parse(path, text), family, manifest(`packages/${family}`))).toEqual([])
    }
  })

  it("passes its own test and its family's contract", () => {
    const { stdout, stderr } = bin('vitest', 'run', '--reporter=json', '--testTimeout=60000')
    expect(stdout, stderr).toMatch(/^{/)
    const { numPassedTests, testResults } = JSON.parse(stdout) as Report
    const failed = testResults.flatMap((f) => [f.message, ...f.assertionResults.flatMap((a) => a.failureMessages)])
    expect(failed.filter(Boolean)).toEqual([])
    expect(testResults).toHaveLength(families.length)
    expect(numPassedTests).toBeGreaterThan(4 * families.length)
  }, 180_000)
})

interface Report {
  readonly numPassedTests: number
  readonly testResults: readonly {
    readonly message: string
    readonly assertionResults: readonly { readonly failureMessages: readonly string[] }[]
  }[]
}
