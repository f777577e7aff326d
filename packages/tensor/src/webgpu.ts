import {
  env,
  findBackendFactory,
  type KernelBackend,
  ready,
  registerBackend,
  removeBackend,
  setBackend,
} from '@tensorflow/tfjs-core'
import { type Backend, needs } from './backend.ts'
import type { Gpu } from './kernels/webgpu/program.ts'

export interface WebgpuOptions {
  /** 'high-performance' by default, for machines with two GPUs */
  readonly power?: 'high-performance' | 'low-power'
  /**
   * 'f16': matrix products hold their tiles in float16 where the device has `shader-f16`, and sum in float32: results
   * within 2e-3 of the largest. 'f32' by default
   */
  readonly precision?: 'f32' | 'f16'
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

/** without tfjs's advice on the console, and with a remedy where a synchronous read cannot work */
const quiet = <T extends KernelBackend>(backend: T): T => {
  const inner = backend as unknown as { hasReadSyncWarned: boolean; readSync(id: object): unknown }
  inner.hasReadSyncWarned = true
  if (typeof OffscreenCanvas !== 'undefined') return backend
  const readSync = inner.readSync.bind(backend)
  const { tensorMap } = backend as unknown as { tensorMap: { get(id: object): { values?: unknown } } }
  inner.readSync = (id) => {
    if (tensorMap.get(id)?.values == null)
      throw new Error(
        'webgpu: this runtime cannot read a GPU synchronously; use await tensor.data(), attachAsync for an adapter that reads what it starts from, or the wasm backend',
      )
    return readSync(id)
  }
  return backend
}

let started: Promise<Backend> | undefined

const start = async (gpu: GPU, options: WebgpuOptions): Promise<Backend> => {
  const { device, info } = await webgpuDevice(gpu, options)
  const tf = await needs(() => import('@tensorflow/tfjs-backend-webgpu'), '@tensorflow/tfjs-backend-webgpu')
  const [{ installShaders }, { tiles }, { makeLighter }, { BATCH }] = await Promise.all([
    import('./kernels/webgpu/index.ts'),
    import('./kernels/webgpu/matmul.ts'),
    import('./kernels/webgpu/lighter.ts'),
    import('./kernels/webgpu/program.ts'),
  ])
  tiles.half = options.precision === 'f16'
  env().set('WEBGPU_DEFERRED_SUBMIT_BATCH_SIZE', BATCH)
  // the module registered a backend on a device of its own making, with fewer features
  if (findBackendFactory('webgpu')) removeBackend('webgpu')
  registerBackend(
    'webgpu',
    () => {
      const backend = quiet(new tf.WebGPUBackend(device, info))
      makeLighter(backend as unknown as Gpu)
      return backend
    },
    3,
  )
  installShaders()
  const failure = new Promise<Error>((resolve) => {
    device.lost.then(({ message }) => {
      started = undefined
      resolve(new Error(`webgpu: the device was lost: ${message || 'no reason given'}; start a backend again`))
    })
    // a buffer that could not be made reads as zeros, and no call that follows fails
    device.addEventListener?.('uncapturederror', ({ error }) => {
      const what = error.constructor.name === 'GPUOutOfMemoryError' ? 'out of memory' : 'a call was refused'
      resolve(new Error(`webgpu: ${what}: ${error.message}`))
    })
  })
  const software = /swiftshader|llvmpipe|lavapipe/i.test(`${info.architecture} ${info.device} ${info.description}`)
  return {
    name: 'webgpu',
    device: [info.vendor, info.architecture, info.description].filter(Boolean).join(' '),
    software,
    failure,
  }
}

/**
 * The GPU of the browser. In Node, `nodeWebgpu()` brings `navigator.gpu` and comes here.
 * One device is made and kept; options matter on the first call, and on the first after a device was lost.
 */
export const webgpu = async (options: WebgpuOptions = {}): Promise<Backend> => {
  const gpu = globalThis.navigator?.gpu
  if (!gpu)
    throw new Error(
      'webgpu: this runtime has no navigator.gpu; use a browser with WebGPU over https or localhost, nodeWebgpu() in Node, or the wasm backend',
    )
  started ??= start(gpu, options)
  const found = await started.catch((error: unknown) => {
    started = undefined
    throw error
  })
  await setBackend('webgpu')
  await ready()
  return found
}
