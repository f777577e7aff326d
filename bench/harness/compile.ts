import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** A script of bench/sides as one file of JavaScript, as who uses us bundles it; what is not ours stays where it is. */
export const compiled = async (script: string): Promise<string> => {
  const outfile = join(root, '.cache/bench/sides', script.replace(/\.ts$/, '.mjs'))
  await build({
    entryPoints: [join(root, 'bench/sides', script)],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    conditions: ['@weftjs/source'],
    external: ['@tensorflow/*', 'koffi', 'webgpu'],
    logLevel: 'warning',
  })
  return outfile
}
