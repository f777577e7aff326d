import { type Backend, isNode } from './backend.ts'
import { cpu } from './cpu.ts'
import { type WasmOptions, wasm } from './wasm.ts'
import { webgpu } from './webgpu.ts'

const inNode = async (): Promise<Backend> => {
  const { hasGpuFiles, nodeWebgpu } = await import('./node-webgpu.ts')
  if (!(await hasGpuFiles())) throw new Error('webgpu: this machine has no graphics device')
  return nodeWebgpu()
}

/** The fastest backend that works here; `why` says what was passed over, and for what reason. */
export const best = async (options: WasmOptions = {}): Promise<Backend> => {
  const passed: string[] = []
  for (const start of [isNode() ? inNode : () => webgpu(), () => wasm(options), cpu]) {
    try {
      const found = await start()
      if (found.software) {
        passed.push(`${found.name} has only a software adapter (${found.device})`)
        continue
      }
      return { ...found, why: passed.length ? passed.join('; ') : 'the fastest there is' }
    } catch (error) {
      passed.push((error as Error).message)
    }
  }
  throw new Error(`no backend works here: ${passed.join('; ')}`)
}
