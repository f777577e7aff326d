/** `npm run bench:peers`: what the benchmarks stand beside, under .cache/peers; what is there already stays. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { missingPeer, peersFolder, pythonOf } from '../harness/peers.ts'

const here = import.meta.dirname
const { values } = parseArgs({ options: { python: { type: 'string' }, node: { type: 'boolean', default: false } } })

const run = (command: string, args: readonly string[]): void => {
  console.log(`> ${command} ${args.join(' ')}`)
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', shell: process.platform === 'win32' })
  if (status !== 0) throw new Error(`${command} ${args[0]} failed${error ? `: ${error.message}` : ''}; see above`)
}
/** does `make` once for each content of a file */
const once = (file: string, make: () => void): void => {
  const mark = join(peersFolder, `.done-${file}`)
  const wanted = readFileSync(join(here, file), 'utf8')
  if (existsSync(mark) && readFileSync(mark, 'utf8') === wanted) {
    console.log(`${file}: installed already`)
    return
  }
  make()
  writeFileSync(mark, wanted)
}

mkdirSync(peersFolder, { recursive: true })
try {
  console.log(`jax-js and stock tfjs go to .cache/peers/node_modules (330 MB)`)
  once('package.json', () => {
    copyFileSync(join(here, 'package.json'), join(peersFolder, 'package.json'))
    run('npm', ['install', '--prefix', peersFolder, '--no-audit', '--no-fund', '--ignore-scripts'])
  })
  const python = pythonOf(values.python)
  if (values.python || process.env['WEFT_BENCH_PYTHON']) console.log(`PyTorch is taken from ${python}`)
  else if (!values.node) {
    console.log('PyTorch, transformers and PEFT go to .cache/peers/venv (several GB with the plain wheel on Linux)')
    once('requirements.txt', () => {
      const base = process.platform === 'win32' ? 'python' : 'python3'
      if (!existsSync(python)) run(base, ['-m', 'venv', join(peersFolder, 'venv')])
      run(python, ['-m', 'pip', 'install', '--quiet', '-r', join(here, 'requirements.txt')])
    })
  }
  for (const peer of ['torch', 'peft', 'jax-js', 'tfjs'] as const)
    console.log(missingPeer([peer], python) ?? `${peer}: ready`)
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
