import { readdirSync } from 'node:fs'
import { defineConfig } from 'vitest/config'

const conditions = ['@weftjs/source', 'module', 'node', 'import', 'default']

/** One project per package; sources are run as they are, through the `@weftjs/source` condition. */
export default defineConfig({
  test: {
    projects: readdirSync(new URL('packages', import.meta.url)).map((name) => ({
      resolve: { conditions },
      ssr: { resolve: { conditions } },
      test: {
        name,
        root: new URL(`packages/${name}`, import.meta.url).pathname,
        include: ['test/**/*.test.ts', 'src/**/*.test.ts'],
        testTimeout: 60_000,
        pool: 'forks',
      },
    })),
  },
})
