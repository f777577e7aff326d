import { defineConfig } from 'tsup'

/** One entry per source file, so that each method is a subpath of its own; shared code goes to chunks. */
export default defineConfig({
  entry: ['src/**/*.ts', '!src/**/*.test.ts'],
  format: 'esm',
  target: 'es2022',
  splitting: true,
  clean: true,
  silent: true,
})
