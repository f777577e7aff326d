import { ready, registerBackend, removeBackend, setBackend } from '@tensorflow/tfjs-core'
import { type Backend, needs } from './backend.ts'

export interface WebgpuOptions {
  /** 'high-performance' by default, for machines with two GPUs */
  readonly power?: 'high-performance' | 'low-power'
}

const WANTED = ['shader-f16', 'subgroups', 'timestamp-query'] as const

/** the device that this page or process computes on, with the adapter's full limits and what it has of our features */
export const webgpuDevice = async (
  gpu: GPU,
  { power = 'high-performance' }: WebgpuOptions = {},
): Promise<{ device: GPUDevice; info: GPUAdapterInfo }> => {
  const adapter = await gpu.requestAdapter({ powerPreference: power })
  if (!adapter) throw new Error('webgpu: no adapter was found; update the graphics driver, or take the wasm backend')
  const requiredLimits: Record<string, number> = {}
  for (const name in adapter.limits) {
    const limit = adapter.limits[name as keyof GPUSupportedLimits]
    if (typeof limit === 'number') requiredLimits[name] = limit
  }
  const requiredFeatures = WANTED.filter((f) => adapter.features.has(f))
  const device = await adapter.requestDevice({ requiredLimits, requiredFeatures })
  return { device, info: adapter.info }
}

/** The GPU of the browser. In Node, `nodeWebgpu()` brings `navigator.gpu` and comes here. */
export const webgpu = async (options: WebgpuOptions = {}): Promise<Backend> => {
  const gpu = globalThis.navigator?.gpu
  if (!gpu)
    throw new Error(
      'webgpu: this runtime has no navigator.gpu; use a browser with WebGPU over https or localhost, nodeWebgpu() in Node, or the wasm backend',
    )
  const { device, info } = await webgpuDevice(gpu, options)
  const tf = await needs(() => import('@tensorflow/tfjs-backend-webgpu'), '@tensorflow/tfjs-backend-webgpu')
  // the module registered a backend on a device of its own making, with fewer features
  removeBackend('webgpu')
  registerBackend('webgpu', () => new tf.WebGPUBackend(device, info), 3)
  await setBackend('webgpu')
  await ready()
  const software = /swiftshader|llvmpipe|lavapipe/i.test(`${info.architecture} ${info.device} ${info.description}`)
  return {
    name: 'webgpu',
    device: [info.vendor, info.architecture, info.description].filter(Boolean).join(' '),
    software,
  }
}
