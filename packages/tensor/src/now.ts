import type { Tensor } from '@tensorflow/tfjs-core'
import { engine } from './engine.ts'

/**
 * The numbers of a tensor without waiting, where the backend has them at hand (cpu, wasm); undefined on a GPU, which
 * would have to finish all that it was given before.
 */
export const numbersNow = (x: Tensor): ArrayLike<number> | undefined =>
  engine().backendName === 'webgpu' ? undefined : x.dataSync()
