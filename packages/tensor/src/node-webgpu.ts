import { type Backend, needs } from './backend.ts'
import { type WebgpuOptions, webgpu } from './webgpu.ts'

/** by a name that bundlers for browsers do not see: `best()` leads here */
const load = <T>(name: string): Promise<T> => import(/* @vite-ignore */ name)

/**
 * Zeroes workgroup memory by a loop in the shader: SwiftShader compiles the extension's way for seconds. Timestamps are
 * not rounded, as they are in browsers, where they could tell one site of another.
 */
const FLAGS = ['disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension,timestamp_quantization']

/**
 * WebGPU in Node through Dawn (npm package `webgpu`): the same backend as in the browser. What tfjs and we expect of a
 * browser is put in place: `navigator.gpu` and the constants and classes of WebGPU (GPUBufferUsage, ...).
 */
export const nodeWebgpu = async (options: WebgpuOptions = {}): Promise<Backend> => {
  const host = globalThis as { navigator?: { gpu?: unknown } }
  if (!host.navigator?.gpu) {
    const { create, globals } = await needs(() => load<typeof import('webgpu')>('webgpu'), 'webgpu')
    Object.assign(globalThis, globals)
    // Node 20 has no navigator, Node 21 and later have one without gpu
    if (!host.navigator) Object.defineProperty(host, 'navigator', { value: {}, configurable: true, writable: true })
    Object.defineProperty(host.navigator, 'gpu', { value: create(FLAGS), configurable: true })
  }
  return webgpu(options)
}

/** Could there be a GPU that Vulkan drives? Asked before Dawn is loaded, which warns on the terminal where there is none. */
export const hasGpuFiles = async (): Promise<boolean> => {
  if (process.platform !== 'linux' || process.env['VK_ICD_FILENAMES'] || process.env['VK_DRIVER_FILES']) return true
  const { readdir } = await load<typeof import('node:fs/promises')>('node:fs/promises')
  const list = async (folder: string): Promise<string[]> => readdir(folder).catch(() => [])
  return (
    (await list('/dev')).some((n) => /^(nvidia\d|dxg$|mali)/.test(n)) ||
    (await list('/dev/dri')).some((n) => n.startsWith('render'))
  )
}
