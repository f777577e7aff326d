import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { floats, type Row } from './case.ts'
import { row } from './ops.ts'

export const transformed: readonly Row[] = [
  row(
    'walshHadamard',
    fc
      .constantFrom<number[][]>([1], [2], [8], [3, 4], [2, 3, 64], [128], [2, 1024], [8192])
      .chain((shape) => floats(shape).map((x) => ({ inputs: [x], f: (t) => w.walshHadamard(t!) }))),
  ),
  row(
    'blockProduct',
    fc
      .tuple(...[4, 4, 4, 5].map((max) => fc.integer({ min: 1, max })))
      .chain(([n, p, q, m]) =>
        fc
          .tuple(floats([m!, n! * q!]), floats([n!, p!, q!]))
          .map((inputs) => ({ inputs, f: (x, b) => w.blockProduct(x!, b!) })),
      ),
  ),
]
