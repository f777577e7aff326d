/** `npm test`: everything, in stages. `npm test -- ARGS` runs vitest alone with ARGS: a path, `--project NAME`, `-t WORD`. */
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run, softwareVulkan } from './swiftshader.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const args = process.argv.slice(2)
const folder = await mkdtemp(join(tmpdir(), 'weft-test-'))
const report = join(folder, 'vitest.json')

/** @type {[name: string, command: string[]][]} */
const stages = [
  ['build', ['turbo', 'run', 'build', '--continue', '--output-logs=new-only']],
  ['vitest', ['vitest', 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${report}`, ...args]],
  ['types', ['tsc', '--noEmit', '-p', 'tsconfig.json']],
  ['biome', ['biome', 'check', '.']],
  ['layers', ['node', '--import', 'tsx', 'tools/check.ts']],
  ['knip', ['knip', '--no-config-hints']],
  ['packages', ['turbo', 'run', 'check', '--continue', '--output-logs=new-only']],
]
const wanted = stages.filter(([name]) =>
  args.length > 0 ? name === 'vitest' : name !== 'layers' || existsSync(join(root, 'tools/check.ts')),
)

/** Tests of the report; a file that did not load counts as one failure, and so does a run that left no report. */
const count = async () => {
  try {
    /** @type {{ numPassedTests: number, numFailedTests: number, testResults: { status: string, assertionResults: { status: string }[] }[] }} */
    const { numPassedTests, numFailedTests, testResults } = JSON.parse(await readFile(report, 'utf8'))
    const unloaded = testResults.filter(
      ({ status, assertionResults }) => status === 'failed' && assertionResults.every((a) => a.status !== 'failed'),
    )
    return { passed: numPassedTests, failed: numFailedTests + unloaded.length }
  } catch {
    return { passed: 0, failed: 0 }
  }
}

const env = {
  ...process.env,
  TURBO_TELEMETRY_DISABLED: '1',
  ...(await softwareVulkan()),
  PATH: [join(root, 'node_modules', '.bin'), process.env.PATH].join(delimiter),
}
/** @type {{ name: string, code: number, seconds: number }[]} */
const results = []
for (const [name, [command = '', ...rest]] of wanted) {
  console.log(`\n[${name}] ${[command, ...rest].join(' ')}`)
  const start = performance.now()
  const code = await run(command, rest, { env, cwd: root })
  results.push({ name, code, seconds: (performance.now() - start) / 1000 })
  if (code > 128) break // a signal ended it: whoever sent it wants the rest to stop too
}

const { passed, failed } = await count()
await rm(folder, { recursive: true, force: true })
const broken = results.filter(({ name, code }) => code !== 0 && (name !== 'vitest' || failed === 0))
console.log()
for (const { name, code, seconds } of results)
  console.log(`${name.padEnd(8)} ${seconds.toFixed(1).padStart(6)} s  ${code === 0 ? 'ok' : `failed (${code})`}`)
process.exitCode = results.every(({ code }) => code === 0) ? 0 : 1
// A stage that fails without a failing test (a type error, a lint, an unhandled rejection) counts as one.
console.log(`${passed} passed, ${failed + broken.length} failed`)
