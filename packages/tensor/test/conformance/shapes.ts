import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { bools, broadcast, exactly, floats, ints, type Row, shapes, type Value } from './case.ts'
import { along, fixed, row } from './ops.ts'

const any = (s: number[]): fc.Arbitrary<Value> => fc.oneof(floats(s), ints(s), bools(s))
const permutation = (n: number): fc.Arbitrary<number[]> =>
  fc.shuffledSubarray(
    Array.from({ length: n }, (_, i) => i),
    { minLength: n },
  )
const sizeOf = (s: readonly number[]): number => s.reduce((p, n) => p * n, 1)

const moving: Row[] = [
  row(
    'reshape',
    shapes().chain((s) => any(s).map((x) => ({ inputs: [x], f: (t) => w.reshape(t!, [-1]) }))),
  ),
  row(
    'expandDims',
    shapes(0, 3).chain((s) => any(s).map((x) => ({ inputs: [x], f: (t) => w.expandDims(t!, -1) }))),
  ),
  row(
    'squeeze',
    shapes(1).chain((s) => floats([1, ...s, 1].slice(0, 5)).map((x) => ({ inputs: [x], f: (t) => w.squeeze(t!) }))),
  ),
  row(
    'transpose',
    shapes(1).chain((s) =>
      fc
        .tuple(any(s), permutation(s.length))
        .map(([x, perm]) => ({ inputs: [x], f: (t) => w.transpose(t!, perm), note: `${perm}` })),
    ),
  ),
  row(
    'transpose of a matrix',
    floats([37, 41]).map((x) => ({ inputs: [x], f: (t) => w.transpose(t!) })),
  ),
  row(
    'broadcastTo',
    broadcast.chain(([a, b]) => {
      const [from, to] = sizeOf(a) <= sizeOf(b) && a.length <= b.length ? [a, b] : [b, a]
      return floats(from).map((x) => ({ inputs: [x], f: (t) => w.broadcastTo(t!, to), note: `${to}` }))
    }),
  ),
  row(
    'tile',
    shapes(1, 3).chain((s) =>
      fc
        .tuple(any(s), fc.array(fc.integer({ min: 1, max: 3 }), { minLength: s.length, maxLength: s.length }))
        .map(([x, reps]) => ({
          inputs: [x],
          f: (t) => w.tile(t!, reps),
          note: `${reps}`,
        })),
    ),
  ),
  row(
    'pad',
    shapes(1).chain((s) =>
      fc
        .tuple(
          fc.oneof(floats(s), ints(s)),
          fc.array(fc.tuple(fc.nat(2), fc.nat(2)), { minLength: s.length, maxLength: s.length }),
        )
        .map(([x, by]) => ({
          inputs: [x],
          f: (t) => w.pad(t!, by, x.dtype === 'float32' ? 0.5 : 3),
          note: JSON.stringify(by),
        })),
    ),
  ),
  along('reverse', (x, a) => w.reverse(x, a)),
  row(
    'slice',
    shapes(1).chain((s) =>
      fc
        .tuple(
          any(s),
          ...s.map((n) =>
            fc.nat(n - 1).chain((from) => fc.integer({ min: 1, max: n - from }).map((size) => [from, size])),
          ),
        )
        .map(([x, ...cuts]) => {
          const [begin, size] = [0, 1].map((i) => (cuts as number[][]).map((c) => c[i]!)) as [number[], number[]]
          return { inputs: [x as Value], f: (t) => w.slice(t!, begin, size), note: JSON.stringify(cuts) }
        }),
    ),
  ),
  along('concat', (x, a) => w.concat([x, w.mul(x, 2), x], a)),
  along('concat of int32', (x, a) => w.concat([x, x], a), ints),
  along('stack', (x, a) => w.stack([x, w.neg(x)], a < 0 ? a + x.rank : a)),
  along('unstack', (x, a) => w.unstack(x, a < 0 ? a + x.rank : a)),
  along('split', (x, a) => {
    const tripled = w.concat([x, x, w.mul(x, 3)], a)
    return w.split(tripled, 3, a)
  }),
  row(
    'split in unequal parts',
    floats([2, 7, 3]).map((x) => ({ inputs: [x], f: (t) => w.split(t!, [1, 4, 2], 1) })),
  ),
  row(
    'where',
    shapes().chain((s) =>
      fc.tuple(bools(s), floats(s), floats(s)).map((inputs) => ({ inputs, f: (c, a, b) => w.where(c!, a!, b!) })),
    ),
  ),
  row(
    'where, broadcast',
    fc
      .tuple(bools([5, 1]), floats([3]), floats([2, 1, 1]))
      .map((inputs) => ({ inputs, f: (c, a, b) => w.where(c!, a!, b!) })),
  ),
  row(
    'where of int32',
    fc.tuple(bools([7]), ints([7]), ints([7])).map((inputs) => ({ inputs, f: (c, a, b) => w.where(c!, a!, b!) })),
  ),
]

const indexing: Row[] = [
  row(
    'gather',
    shapes(1).chain((s) =>
      fc.nat(s.length - 1).chain((axis) =>
        fc
          .tuple(
            floats(s),
            shapes(1, 2).chain((i) => ints(i, 0, s[axis]!)),
          )
          .map(([x, ids]) => ({
            inputs: [x, ids],
            f: (t, i) => w.gather(t!, i as w.Tensor1D, axis),
            note: `axis ${axis}`,
          })),
      ),
    ),
  ),
  row(
    'gather of int32',
    fc
      .tuple(ints([7, 3], -(2 ** 30), 2 ** 30), ints([5], 0, 7))
      .map((inputs) => ({ inputs, f: (t, i) => w.gather(t!, i as w.Tensor1D) })),
  ),
  row(
    'gather by a number',
    fixed({ inputs: [exactly([3, 2], [1, 2, 3, 4, 5, 6])], f: (x) => w.gather(x!, w.scalar(1, 'int32') as never) }),
  ),
  row(
    'unsortedSegmentSum',
    shapes(1, 3).chain((s) =>
      fc
        .tuple(floats(s), ints([s[0]!], 0, 5))
        .map((inputs) => ({ inputs, f: (x, i) => w.unsortedSegmentSum(x!, i as w.Tensor1D, 5) })),
    ),
  ),
  row(
    'unsortedSegmentSum of many',
    fc
      .tuple(floats([300, 5]), ints([300], 0, 3))
      .map((inputs) => ({ inputs, f: (x, i) => w.unsortedSegmentSum(x!, i as w.Tensor1D, 3) })),
  ),
  row(
    'unsortedSegmentSum without the negative',
    fixed({
      inputs: [exactly([4], [1, 2, 3, 4]), exactly([4], [0, -1, 1, 0], 'int32')],
      f: (x, i) => w.unsortedSegmentSum(x!, i as w.Tensor1D, 2),
      wrt: [],
    }),
  ),
]

/** [m, n, k] for each way a product is cut, and sizes that divide by nothing */
const products = fc.constantFrom<[number, number, number][]>(
  [1, 1, 1],
  [1, 37, 53],
  [2, 5, 3],
  [3, 70, 65],
  [4, 16, 16],
  [5, 3, 129],
  [33, 7, 20],
  [7, 41, 19],
  [35, 33, 17],
  [64, 64, 32],
)
const matMuls: Row[] = [
  row(
    'matMul',
    fc.tuple(products, fc.boolean(), fc.boolean()).chain(([[m, n, k], ta, tb]) =>
      fc.tuple(floats(ta ? [k, m] : [m, k], -1, 1), floats(tb ? [n, k] : [k, n], -1, 1)).map((inputs) => ({
        inputs,
        f: (a, b) => w.matMul(a!, b!, ta, tb),
        note: `${[ta, tb]}`,
      })),
    ),
  ),
  row(
    'matMul of large matrices',
    fc.tuple(fc.boolean(), fc.boolean()).chain(([ta, tb]) =>
      fc.tuple(floats(ta ? [19, 449] : [449, 19], -1, 1), floats(tb ? [259, 19] : [19, 259], -1, 1)).map((inputs) => ({
        inputs,
        f: (a, b) => w.matMul(a!, b!, ta, tb),
        note: `${[ta, tb]}`,
        wrt: [],
      })),
    ),
  ),
  row(
    'matMul in batches',
    fc
      .tuple(
        fc.constantFrom(
          [
            [2, 3],
            [2, 3],
          ],
          [[3], [2, 3]],
          [
            [2, 1],
            [1, 3],
          ],
          [[], [5]],
          [[4], []],
        ),
        fc.boolean(),
        fc.boolean(),
      )
      .chain(([[oa, ob], ta, tb]) =>
        fc
          .tuple(floats([...oa!, ...(ta ? [7, 5] : [5, 7])]), floats([...ob!, ...(tb ? [6, 7] : [7, 6])]))
          .map((inputs) => ({
            inputs,
            f: (a, b) => w.matMul(a!, b!, ta, tb),
            note: `${[ta, tb]}`,
          })),
      ),
  ),
  row(
    'matMul with NaN',
    fixed({
      inputs: [exactly([2, 2], [1, Number.NaN, 0, 2]), exactly([2, 2], [1, 2, 3, Number.POSITIVE_INFINITY])],
      f: (a, b) => w.matMul(a!, b!),
      wrt: [],
    }),
  ),
]

export const layout: readonly Row[] = [...moving, ...indexing, ...matMuls]
