import { type Backend, best, cpu, wasm, webgpu } from '@weftjs/tensor'
import { aroundWrites } from '@weftjs/tensor/checkpoint/file'
import { useLapack } from '@weftjs/tensor/linalg'
import { Failure, usage } from './fail.ts'
import { dropOut } from './out.ts'
import { warn } from './terminal.ts'

const BACKENDS: Readonly<Record<string, () => Promise<Backend>>> = {
  webgpu: async () =>
    globalThis.navigator && 'gpu' in globalThis.navigator
      ? webgpu()
      : (await import('@weftjs/tensor/node-webgpu')).nodeWebgpu(),
  wasm: () => wasm(),
  cpu,
}

/** @throws Failure (exit code 2) for a name that there is not, before anything is read */
export const checkBackend = (name: string | undefined): void => {
  if (name !== undefined && !Object.hasOwn(BACKENDS, name))
    throw usage(`--backend must be one of ${Object.keys(BACKENDS).join(', ')}, found '${name}'`)
}

/** The backend of --backend, or the fastest; says which on standard error. */
export const startBackend = async (name: string | undefined): Promise<Backend> => {
  checkBackend(name)
  aroundWrites(untilWritten)
  const backend = name === undefined ? await best() : await BACKENDS[name]!().catch((error) => refuse(name, error))
  warn(
    `backend ${backend.name} (${backend.device})${backend.why ? `: ${backend.why}` : ''}${backend.software ? ': emulated on the CPU, which is slow' : ''}`,
  )
  await useLapack() // starts that decompose, and GPTQ's solver; where there is none they run in JavaScript
  return backend
}

/** Ctrl-C ends a command at once, but where a file is half written it takes that away first */
const untilWritten = (): (() => void) => {
  const ends = (Object.entries({ SIGINT: 130, SIGTERM: 143 }) as [NodeJS.Signals, number][]).map(([signal, code]) => {
    // who trains stops in its own way
    const end = (): void => {
      if (process.listenerCount(signal) > 1) return
      process.once('exit', dropOut)
      process.exit(code)
    }
    process.on(signal, end)
    return () => process.off(signal, end)
  })
  return () => {
    for (const off of ends) off()
  }
}

const refuse = (name: string, error: Error): never => {
  const rest = Object.keys(BACKENDS).filter((b) => b !== name)
  throw new Failure(
    `--backend ${name} does not work here: ${error.message}; take --backend ${rest.join(' or ')}, or leave it out for the fastest that works`,
  )
}
