import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { exactly, floats, type Row } from './case.ts'
import { row } from './ops.ts'

const sizes = fc.constantFrom<[number, number][]>([1, 1], [3, 1], [5, 7], [40, 16], [9, 67])

export const looked: readonly Row[] = [
  row(
    'gatherRows',
    fc.tuple(sizes, fc.constantFrom<number[][]>([1], [7], [2, 3])).chain(([[n, d], shape]) => {
      const size = shape.reduce((p, k) => p * k, 1)
      return fc
        .tuple(floats([n, d]), fc.array(fc.nat(n - 1), { minLength: size, maxLength: size }))
        .map(([m, ids]) => ({
          inputs: [m, exactly(shape, ids, 'int32')],
          f: (m, index) => w.gatherRows(m!, index!),
          wrt: [0],
        }))
    }),
  ),
]
