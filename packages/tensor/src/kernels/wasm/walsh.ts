import type { Tensor } from '@tensorflow/tfjs-core'
import { addressOf, output, routines } from '../../heap.ts'
import type { Faster } from '../../kernel.ts'
import * as module from '../../wasm/walsh.generated.ts'

export const walsh: Faster<{ x: Tensor }, object> = {
  forward: ({ x }) => {
    const n = x.shape.at(-1)!
    if (x.dtype !== 'float32' || n < 4) return undefined
    const y = output(x.shape)
    routines(module)!['walsh']!(addressOf(x), addressOf(y), x.size / n, n)
    return y
  },
}
