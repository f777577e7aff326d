import { findBackend, getBackend, setBackend, type Tensor } from '@tensorflow/tfjs-core'
import { needs } from './backend.ts'

/** Can `f` read any tensor without waiting? Outside of a browser nobody reads a GPU so. */
export const readsAtOnce = (): boolean => getBackend() !== 'webgpu' || typeof OffscreenCanvas !== 'undefined'

/**
 * What `f` gives, which reads tensors without waiting (`dataSync`, `toMatrix`). Where the backend cannot (WebGPU outside of a
 * browser), `reads` are waited for and `f` computes in plain JavaScript; what it makes goes to the GPU when it is used there.
 * @throws Error where `f` reads a tensor of the GPU that is not among `reads`
 */
export const atOnce = async <T>(reads: readonly Tensor[], f: () => T): Promise<T> => {
  if (readsAtOnce()) return f()
  await needs(() => import('@tensorflow/tfjs-backend-cpu'), '@tensorflow/tfjs-backend-cpu')
  await Promise.all(reads.map((t) => t.data()))
  // the switch is done when the call returns, so that nothing else runs in between
  const before = getBackend()
  void setBackend('cpu')
  ;(findBackend('cpu') as { firstUse?: boolean }).firstUse = false
  try {
    return f()
  } finally {
    void setBackend(before)
  }
}

/** `f`; where it fails and a GPU cannot be read at once, `atOnce` with what `reads` gives calls it again. */
export const orAtOnce = async <T>(reads: () => readonly Tensor[], f: () => T): Promise<T> => {
  try {
    return f()
  } catch (error) {
    if (readsAtOnce()) throw error
  }
  return atOnce([...new Set(reads())], f)
}
