import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Peer } from './types.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
/** where `npm run bench:peers` puts them */
export const peersFolder: string = join(root, '.cache/peers')

const venv = join(peersFolder, process.platform === 'win32' ? 'venv/Scripts/python.exe' : 'venv/bin/python')

/** the Python that has the peers: as told, WEFT_BENCH_PYTHON, or the environment that bench:peers has made */
export const pythonOf = (told?: string): string => told ?? process.env['WEFT_BENCH_PYTHON'] ?? venv

const INSTALL = 'run: npm run bench:peers'
const known = new Map<string, string | undefined>()

const pythonModule = (python: string, module: string): string | undefined => {
  const key = `${python}${delimiter}${module}`
  if (!known.has(key)) {
    const found = python.includes('/') || python.includes('\\') ? existsSync(python) : true
    const { status } = found ? spawnSync(python, ['-c', `import ${module}`], { stdio: 'ignore' }) : { status: 1 }
    known.set(
      key,
      status === 0
        ? undefined
        : `${module} is not installed${found ? ` in ${told(python)}` : ''}; ${INSTALL}, or name a Python that has it by --python`,
    )
  }
  return known.get(key)
}
const told = (python: string): string => (python === venv ? 'the environment of bench:peers' : 'the Python named')

const nodeModule = (name: string): string | undefined =>
  existsSync(join(peersFolder, 'node_modules', name, 'package.json'))
    ? undefined
    : `${name} is not installed under .cache/peers; ${INSTALL}`

/** why the first of these peers is not there, and how to get it; undefined where all are */
export const missingPeer = (needs: readonly Peer[], python?: string): string | undefined => {
  for (const peer of needs) {
    const reason =
      peer === 'torch'
        ? (pythonModule(pythonOf(python), 'torch') ?? pythonModule(pythonOf(python), 'transformers'))
        : peer === 'peft' || peer === 'bitsandbytes' || peer === 'gguf'
          ? pythonModule(pythonOf(python), peer)
          : nodeModule(peer === 'tfjs' ? '@tensorflow/tfjs' : '@jax-js/jax')
    if (reason) return reason
  }
  return undefined
}
