import type { Tensor } from '@tensorflow/tfjs-core'
import { addressOf, output, routines } from '../../heap.ts'
import type { Faster } from '../../kernel.ts'
import * as module from '../../wasm/norm.generated.ts'

export const rmsNorm: Faster<{ x: Tensor; scale: Tensor }, { eps: number }> = {
  forward: ({ x, scale }, { eps }) => {
    const width = x.shape.at(-1)!
    if (scale.size !== width) return undefined
    const [y, r] = [output(x.shape), output([x.size / width])]
    const [ax, as, ay, ar] = [x, scale, y, r].map(addressOf) as [number, number, number, number]
    routines(module)!['rmsNorm']!(ax, as, ay, ar, x.size / width, width, eps)
    r.dispose()
    return y
  },
}
