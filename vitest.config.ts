import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const conditions = ['@weftjs/source', 'module', 'node', 'import', 'default']
const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const folders = (parent: string): string[] =>
  existsSync(at(parent)) ? readdirSync(at(parent)).filter((n) => existsSync(at(`${parent}/${n}/package.json`))) : []

/** Sources are run as they are, through the `@weftjs/source` condition. */
const project = (name: string, root: string, include: string[]) => ({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    name,
    root: at(root),
    include,
    testTimeout: 60_000,
    pool: 'forks' as const,
    setupFiles: [at('tools/silence.ts')],
  },
})

/** One project per package and app, and one for each folder beside them that holds tests. */
export default defineConfig({
  test: {
    // one less than the cores would leave half of a small machine idle
    maxWorkers: '100%',
    projects: [
      ...folders('packages').map((n) => project(n, `packages/${n}`, ['test/**/*.test.ts', 'src/**/*.test.ts'])),
      ...folders('apps').map((n) => project(n, `apps/${n}`, ['test/**/*.test.ts', 'src/**/*.test.ts'])),
      project('tools', 'tools', ['test/**/*.test.ts']),
      project('examples', 'examples', ['**/*.test.ts']),
      project('claims', 'claims', ['**/*.test.ts']),
    ],
  },
})
