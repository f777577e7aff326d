import { routines } from '../../heap.ts'
import { accelerate } from '../../kernel.ts'
import * as module from '../../wasm/norm.generated.ts'
import { productOn } from '../product.ts'
import { rmsNorm } from './norm.ts'
import { productOnHeap } from './product.ts'
import { replaceShapeOps } from './shape.ts'

/** Fused kernels on the wasm heap in the place of composed ops; nothing changes where the engine cannot run them. */
export const installHeapKernels = (): void => {
  productOn['wasm'] = productOnHeap
  if (!routines(module)) return
  accelerate('wasm', { RmsNorm: rmsNorm })
  replaceShapeOps()
}
