import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { floats, type Row } from './case.ts'
import { row } from './ops.ts'

/** leading axes of x; the last takes more rows than a tile has */
const leading = fc.constantFrom<number[][]>([1], [7], [1, 1], [2, 3], [3, 1, 5], [1, 67])
const width = fc.constantFrom(1, 3, 8, 12, 64, 77, 130)
const rank = fc.constantFrom(1, 2, 4, 8, 13)
const subsets = (...indices: number[]): fc.Arbitrary<number[]> => fc.subarray(indices, { minLength: 1 })

export const products: readonly Row[] = [
  row(
    'linear',
    fc
      .tuple(leading, width, width, subsets(0, 1))
      .chain(([s, m, n, wrt]) =>
        fc
          .tuple(floats([...s, m], -1, 1), floats([n, m], -1, 1))
          .map((inputs) => ({ inputs, f: (x, k) => w.linear(x!, k!), wrt, note: `wrt ${wrt}` })),
      ),
  ),
  row(
    'linear with a bias',
    fc
      .tuple(leading, width, width, subsets(0, 1, 2))
      .chain(([s, m, n, wrt]) =>
        fc
          .tuple(floats([...s, m], -1, 1), floats([n, m], -1, 1), floats([n]))
          .map((inputs) => ({ inputs, f: (x, k, b) => w.linear(x!, k!, b!), wrt, note: `wrt ${wrt}` })),
      ),
  ),
  row(
    'linearLowRank',
    fc
      .tuple(leading, width, width, rank, subsets(0, 1, 2, 3, 4), fc.constantFrom(1, -0.7), fc.boolean())
      .chain(([s, m, n, r, wrt, scale, bias]) =>
        fc
          .tuple(
            floats([...s, m], -1, 1),
            floats([n, m], -1, 1),
            floats([r, m], -1, 1),
            floats([n, r], -1, 1),
            floats([n]),
          )
          .map((inputs) => ({
            inputs,
            f: (x, k, a, b, c) => w.linearLowRank(x!, k!, a!, b!, scale, bias ? c : undefined),
            wrt: bias ? wrt : wrt.filter((i) => i < 4),
            note: `wrt ${wrt}, scale ${scale}, bias ${bias}`,
          })),
      ),
  ),
  row(
    'linear and linearLowRank of one input, one matrix twice',
    fc.tuple(leading, width, width, rank, subsets(0, 1, 2, 3, 4)).chain(([s, m, n, r, wrt]) =>
      fc
        .tuple(
          floats([...s, m], -1, 1),
          ...[
            [n, m],
            [n, m],
            [r, m],
            [n, r],
          ].map((shape) => floats(shape, -1, 1)),
        )
        .map((inputs) => ({
          inputs,
          // gradients of x and of k are added to what the other uses gave
          f: (x, k, l, a, b) =>
            w.addN([w.linear(x!, k!), w.linearLowRank(x!, l!, a!, b!, 2), w.mul(w.linear(x!, k!), 3)]),
          wrt,
          note: `wrt ${wrt}`,
        })),
    ),
  ),
  row(
    'addLowRank',
    fc
      .tuple(leading, width, width, rank, subsets(0, 1, 2, 3), fc.constantFrom(1, 2.5))
      .chain(([s, m, n, r, wrt, scale]) =>
        fc
          .tuple(floats([...s, n]), floats([...s, m], -1, 1), floats([r, m], -1, 1), floats([n, r], -1, 1))
          .map((inputs) => ({
            inputs,
            f: (y, x, a, b) => w.addLowRank(y!, x!, a!, b!, scale),
            wrt,
            note: `wrt ${wrt}, scale ${scale}`,
          })),
      ),
  ),
]
