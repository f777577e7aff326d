/** What does not fit is refused before it is read. */
import { backend, memory } from '@tensorflow/tfjs-core'
import { engine } from './engine.ts'

/** a wasm memory has addresses of 32 bits */
const HEAP = 2 ** 32
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`

/**
 * Can the backend hold these tensors of float32 (or int32) besides what it holds?
 * @throws Error with the number that does not fit: of all of them on the heap of wasm, of one in a binding of WebGPU
 */
export const checkRoom = (tensors: readonly { readonly name: string; readonly elements: number }[]): void => {
  const { backendName } = engine()
  if (backendName === 'wasm') {
    const needed = tensors.reduce((n, { elements }) => n + 4 * elements, 0)
    const { numBytes } = memory()
    if (needed + numBytes > HEAP)
      throw new Error(
        `the network needs ${gigabytes(needed)} as float32, and the wasm heap holds ${gigabytes(HEAP)}, ${gigabytes(numBytes)} of them in use; keep it in fewer bits (a quantized checkpoint) or take the webgpu backend`,
      )
  }
  if (backendName === 'webgpu') {
    const { limits } = (backend() as unknown as { device: GPUDevice }).device
    const most = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize)
    const large = tensors.find(({ elements }) => 4 * elements > most)
    if (large)
      throw new Error(
        `${large.name}: ${gigabytes(4 * large.elements)} as float32, and this GPU binds at most ${gigabytes(most)} at a time; keep it in fewer bits (a quantized checkpoint) or take the wasm backend`,
      )
  }
}
