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
]
