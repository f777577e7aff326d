import { type Backend, best, cpu, wasm, webgpu } from '@weftjs/tensor'
import { usage } from './fail.ts'
import { warn } from './terminal.ts'

const BACKENDS: Readonly<Record<string, () => Promise<Backend>>> = {
  webgpu: async () =>
    globalThis.navigator && 'gpu' in globalThis.navigator
      ? webgpu()
      : (await import('@weftjs/tensor/node-webgpu')).nodeWebgpu(),
  wasm: () => wasm(),
  cpu,
}

/** the backend of --backend, or the fastest; says which on standard error */
export const startBackend = async (name: string | undefined): Promise<Backend> => {
  if (name !== undefined && !Object.hasOwn(BACKENDS, name))
    throw usage(`--backend must be one of ${Object.keys(BACKENDS).join(', ')}, found '${name}'`)
  const backend = name ? await BACKENDS[name]!() : await best()
  warn(`backend ${backend.name} (${backend.device})${backend.why ? `: ${backend.why}` : ''}`)
  return backend
}
