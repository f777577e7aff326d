/** Writes a package's declarations: tsc's, with `./x.ts` as `./x.js`, which every consumer's resolver knows. Run in the package. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.json'], { stdio: 'inherit' })
if (status !== 0) process.exit(status ?? 1)

/** a relative specifier after `from`, `import` or `import(` */
const relative = /((?:\bfrom|\bimport)\s*\(?\s*(['"]))(\.[^'"]*)\.ts\2/g
for (const file of readdirSync('dist', { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.d.ts'))) {
  const text = readFileSync(join('dist', file), 'utf8')
  const mended = text.replace(relative, '$1$3.js$2')
  if (mended !== text) writeFileSync(join('dist', file), mended)
}
