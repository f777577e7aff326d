import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** names of the benchmarks, one file each */
export const names = (): string[] =>
  readdirSync(fileURLToPath(new URL('..', import.meta.url)))
    .filter((n) => n.endsWith('.ts') && n !== 'run.ts')
    .map((n) => n.slice(0, -3))
    .sort()
