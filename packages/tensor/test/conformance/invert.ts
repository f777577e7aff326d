import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { floats, type Row } from './case.ts'
import { row } from './ops.ts'

export const inverted: readonly Row[] = [
  row(
    'invert',
    fc.constantFrom<number[][]>([1, 1], [5, 5], [3, 8, 8], [2, 1, 32, 32]).chain((shape) =>
      floats(shape, -1, 1).map((x) => ({
        inputs: [x],
        // I + Q − Qᵀ, as in a Cayley transform, and no multiple of the identity
        f: (t) => {
          const axes = [...t!.shape.keys()].slice(0, -2)
          const skew = w.sub(t!, w.transpose(t!, [...axes, axes.length + 1, axes.length]))
          return w.invert(w.add(skew, w.eye(shape.at(-1)!)))
        },
      })),
    ),
    { tolerance: 3e-5 },
  ),
]
