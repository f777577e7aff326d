import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { exactly, floats, type Row, type Value } from './case.ts'
import { row } from './ops.ts'

const sizes = fc.constantFrom<[number, number]>([1, 1], [5, 3], [4, 9], [40, 37])
/** k places of [n, m], each once */
const places = (n: number, m: number): fc.Arbitrary<Value> =>
  fc
    .uniqueArray(fc.nat(n * m - 1), { minLength: 1, maxLength: Math.min(60, n * m) })
    .map((at) => exactly([2, at.length], [...at.map((i) => Math.floor(i / m)), ...at.map((i) => i % m)], 'int32'))
const rowsOf = fc.constantFrom<number[][]>([1], [2, 3], [67])

export const sparse: readonly Row[] = [
  row(
    'takeAt',
    sizes.chain(([n, m]) =>
      fc.tuple(floats([n, m]), places(n, m)).map((inputs) => ({ inputs, f: (a, at) => w.takeAt(a!, at!), wrt: [0] })),
    ),
  ),
  row(
    'addAt',
    sizes.chain(([n, m]) =>
      fc.tuple(floats([n, m]), places(n, m)).chain(([a, at]) =>
        floats([at.shape[1]!]).map((v) => ({
          inputs: [a, v, at],
          f: (a, v, at) => w.addAt(a!, v!, at!),
        })),
      ),
    ),
  ),
  row(
    'linearSparse',
    fc.tuple(sizes, rowsOf, fc.constantFrom([0, 1, 2, 4], [0, 1], [1], [0], [2, 4])).chain(([[n, m], s, wrt]) =>
      fc.tuple(floats([...s, m]), places(n, m), floats([n, m]), floats([n])).chain(([x, at, a, b]) =>
        floats([at.shape[1]!]).map((v) => ({
          inputs: [x, v, a, at, b],
          f: (x, v, a, at, b) => w.linearSparse(x!, v!, at!, [n, m], a!, b!),
          wrt,
          note: `wrt ${wrt}`,
        })),
      ),
    ),
  ),
  row(
    'linearSparse without W',
    fc.tuple(sizes, rowsOf, fc.constantFrom([0, 1], [1], [0])).chain(([[n, m], s, wrt]) =>
      fc.tuple(floats([...s, m]), places(n, m)).chain(([x, at]) =>
        floats([at.shape[1]!]).map((v) => ({
          inputs: [x, v, at],
          f: (x, v, at) => w.linearSparse(x!, v!, at!, [n, m]),
          wrt,
        })),
      ),
    ),
  ),
]
