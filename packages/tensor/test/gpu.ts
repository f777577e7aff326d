import { backend } from '@tensorflow/tfjs-core'
import type { Gpu } from '../src/kernels/webgpu/program.ts'
import { hasGpuFiles, nodeWebgpu } from '../src/node-webgpu.ts'

/** `npm test` brings a software adapter where there is no GPU; so does: node tools/swiftshader.mjs -- npx vitest run ... */
export const there: boolean = await hasGpuFiles()
/** what the device has refused since `startGpu` */
export const refused: string[] = []

/** the backend's device, for tests that are passed over unless it is `there` */
export const startGpu = async (): Promise<Gpu> => {
  await nodeWebgpu()
  const gpu = backend() as unknown as Gpu
  gpu.device.addEventListener('uncapturederror', (e) => refused.push((e as GPUUncapturedErrorEvent).error.message))
  return gpu
}
