import { type Backend, needs } from './backend.ts'
import { type WebgpuOptions, webgpu } from './webgpu.ts'

/** WebGPU in Node through Dawn (npm package `webgpu`): the same backend as in the browser. */
export const nodeWebgpu = async (options: WebgpuOptions = {}): Promise<Backend> => {
  const dawn = await needs(() => import('webgpu'), 'webgpu')
  Object.assign(globalThis, dawn.globals)
  const gpu = dawn.create([])
  const host = globalThis as { navigator?: object }
  if (!host.navigator) Object.defineProperty(host, 'navigator', { value: {}, configurable: true, writable: true })
  if (!(host.navigator as { gpu?: unknown }).gpu)
    Object.defineProperty(host.navigator, 'gpu', { value: gpu, configurable: true })
  return webgpu(options)
}
