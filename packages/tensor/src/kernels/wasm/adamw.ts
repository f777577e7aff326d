import { scalar, type Tensor } from '@tensorflow/tfjs-core'
import { addressOf, heapBytes, routines } from '../../heap.ts'
import * as module from '../../wasm/adamw.generated.ts'
import type { InPlace } from '../in-place.ts'

const call = (name: string, ...values: number[]): number => routines(module)![name]!(...values)

/** one pass over each tensor */
export const inPlace: InPlace = {
  adam: (parts, { b1, b2, eps, decay, scale, step }) => {
    const [rate, root] = [scale / (1 - b1 ** step), 1 / Math.sqrt(1 - b2 ** step)]
    for (const { g, m, v, p } of parts) {
      const [ag, am, av, ap] = [g, m, v, p ?? g].map(addressOf) as [number, number, number, number]
      call('adam', ag, am, av, ap, g.size, b1, 1 - b1, b2, 1 - b2, eps, rate, root, p ? scale * decay : 0)
    }
    return true
  },
  squares: (tensors) => scalar(tensors.reduce((s, t) => s + call('squares', addressOf(t), t.size), 0)),
  scale: (tensors, s) => {
    const factor = numberOf(s)
    if (factor !== 1) for (const t of tensors) call('scale', addressOf(t), t.size, factor)
    return true
  },
  add: (pairs, s) => {
    for (const [y, x] of pairs) call('add', addressOf(y), addressOf(x), y.size, s)
    return true
  },
}

const numberOf = (s: Tensor): number => new Float32Array(heapBytes(addressOf(s), 4).slice().buffer)[0]!
