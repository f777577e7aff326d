import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { bools, broadcast, type Case, exactly, floats, ints, type Row, shapes, type Value } from './case.ts'

type F = (...xs: w.Tensor[]) => w.Tensor | w.Tensor[]
type Options = Partial<Omit<Row, 'name' | 'cases'>>

/** the exports by name */
const op = { ...w } as unknown as Readonly<Record<string, F>>
const fixed = (...cases: Case[]): fc.Arbitrary<Case> => fc.constantFrom(...cases)
const row = (name: string, cases: fc.Arbitrary<Case>, options: Options = {}): Row => ({ name, cases, ...options })
const unary = (name: string, f: F, low = -2, high = 2, options: Options = {}): Row =>
  row(
    name,
    shapes().chain((s) => floats(s, low, high).map((x) => ({ inputs: [x], f }))),
    options,
  )
/** two inputs, of which neither, one or both broadcast */
const binary = (name: string, f: F, low = -2, high = 2, make = floats, options: Options = {}): Row =>
  row(
    name,
    broadcast.chain(([a, b]) => fc.tuple(make(a, low, high), make(b, low, high)).map((inputs) => ({ inputs, f }))),
    options,
  )
const axisOf = (shape: number[]): fc.Arbitrary<number> => fc.integer({ min: -shape.length, max: shape.length - 1 })
/** f(x, axis) for any axis of x */
const along = (
  name: string,
  f: (x: w.Tensor, axis: number) => w.Tensor | w.Tensor[],
  make: (s: number[]) => fc.Arbitrary<Value> = floats,
  options: Options = {},
): Row =>
  row(
    name,
    shapes(1).chain((s) =>
      fc.tuple(make(s), axisOf(s)).map(([x, axis]) => ({ inputs: [x], f: (t) => f(t!, axis), note: `axis ${axis}` })),
    ),
    options,
  )
/** over all axes, one, or several, kept or not */
const reduced = (
  name: string,
  f: (x: w.Tensor, axes: number[] | undefined, keep: boolean) => w.Tensor,
  make: (s: number[]) => fc.Arbitrary<Value> = floats,
): Row =>
  row(
    name,
    shapes(1).chain((s) =>
      fc
        .tuple(
          make(s),
          fc.option(
            fc.subarray(
              s.map((_, i) => i),
              { minLength: 1 },
            ),
          ),
          fc.boolean(),
        )
        .map(([x, axes, keep]) => ({
          inputs: [x],
          f: (t) => f(t!, axes ?? undefined, keep),
          note: `axes ${axes} ${keep}`,
        })),
    ),
  )

const INF = Number.POSITIVE_INFINITY
const odd = [Number.NaN, INF, -INF, 0, -1.5, 2.5, 1e30, -1e-20]
/** NaN, infinities, zero, large and small numbers */
const strange = (name: string, f: F, values = odd): Row =>
  row(`${name} of strange numbers`, fixed({ inputs: [exactly([values.length], values)], f, wrt: [] }))
const pairs = odd.flatMap((a) => odd.map((b) => [a, b] as const))
const strangePairs = (name: string, f: F): Row =>
  row(
    `${name} of strange numbers`,
    fixed({
      inputs: [0, 1].map((i) =>
        exactly(
          [pairs.length],
          pairs.map((p) => p[i]!),
        ),
      ),
      f,
      wrt: [],
    }),
  )
/** beyond what float32 counts exactly */
const wide = (s: number[]): fc.Arbitrary<Value> => ints(s, -(2 ** 30), 2 ** 30)

const arithmetic: Row[] = [
  ...(['add', 'sub', 'mul', 'maximum', 'minimum', 'squaredDifference'] as const).map((n) => binary(n, op[n]!)),
  ...(['add', 'sub', 'mul', 'maximum', 'minimum', 'squaredDifference'] as const).map((n) =>
    binary(`${n} of int32`, op[n]!, -99, 99, ints),
  ),
  ...(['add', 'sub', 'maximum', 'minimum', 'equal', 'notEqual', 'less', 'greaterEqual'] as const).map((n) =>
    binary(`${n} of wide int32`, op[n]!, 0, 0, (s) => wide(s)),
  ),
  ...(['add', 'sub', 'mul', 'div'] as const).map((n) => strangePairs(n, op[n]!)),
  binary('div', w.div as F, 0.5, 2),
  binary('div of int32', w.div as F, 1, 99, ints),
  binary('floorDiv', w.floorDiv as F, 0.5, 9),
  binary('floorDiv of int32', w.floorDiv as F, 1, 99, ints),
  row(
    'floorDiv of negative int32',
    fixed({
      inputs: [exactly([4], [-7, 7, -8, 8], 'int32'), exactly([4], [2, -2, 4, 3], 'int32')],
      f: w.floorDiv as F,
    }),
  ),
  binary('mod', w.mod as F, 0.5, 9),
  binary('mod of int32', w.mod as F, 1, 99, ints),
  binary('pow', w.pow as F, 0.5, 2, floats, { tolerance: 2e-5 }),
  row('pow of a negative base', fixed({ inputs: [exactly([4], [-2, -1.5, 0, 3])], f: (x) => w.pow(x!, 2), wrt: [] })),
  row(
    'addN',
    shapes().chain((s) =>
      fc.tuple(floats(s), floats(s), floats(s)).map((inputs) => ({ inputs, f: (...x) => w.addN(x) })),
    ),
  ),
  row(
    'lerp',
    shapes().chain((s) =>
      fc.tuple(floats(s), floats(s), floats(s)).map((inputs) => ({ inputs, f: (a, b, t) => w.lerp(a!, b!, t!) })),
    ),
  ),
  unary('clipByValue', (x) => w.clipByValue(x!, -0.7, 0.9)),
  ...(['equal', 'notEqual', 'greater', 'greaterEqual', 'less', 'lessEqual'] as const).flatMap((n) => [
    binary(n, op[n]!),
    binary(`${n} of int32`, op[n]!, -3, 4, ints),
    strangePairs(n, op[n]!),
  ]),
  ...(['logicalAnd', 'logicalOr'] as const).map((n) => binary(n, op[n]!, 0, 0, (s) => bools(s))),
  row(
    'logicalNot',
    shapes().chain((s) => bools(s).map((x) => ({ inputs: [x], f: w.logicalNot as F }))),
  ),
]

const elementwise: Row[] = [
  ...(
    ['abs', 'ceil', 'cos', 'elu', 'exp', 'floor', 'leakyRelu', 'neg', 'relu', 'sigmoid', 'sign', 'silu', 'sin'] as const
  ).map((n) => unary(n, op[n]!)),
  ...(['softplus', 'square', 'step', 'tanh', 'onesLike', 'zerosLike', 'clone'] as const).map((n) => unary(n, op[n]!)),
  unary('round', w.round as F, -9, 9),
  row('round of halves', fixed({ inputs: [exactly([6], [0.5, 1.5, 2.5, -0.5, -1.5, -2.5])], f: w.round as F })),
  unary('erf', w.erf as F, -3, 3),
  unary('sigmoid of large', w.sigmoid as F, -99, 99),
  unary('tanh of large', w.tanh as F, -99, 99),
  unary('softplus of large', w.softplus as F, -99, 99),
  ...(['log', 'sqrt', 'rsqrt', 'reciprocal'] as const).map((n) => unary(n, op[n]!, 0.1, 4)),
  unary('log1p', w.log1p as F, -0.5, 4),
  ...(['neg', 'abs', 'sign', 'square'] as const).map((n) =>
    row(
      `${n} of int32`,
      shapes().chain((s) => ints(s).map((x) => ({ inputs: [x], f: op[n]! }))),
    ),
  ),
  ...(['abs', 'neg', 'square', 'relu', 'exp', 'sign'] as const).map((n) => strange(n, op[n]!)),
  ...(['sqrt', 'log'] as const).map((n) => strange(n, op[n]!, [Number.NaN, INF, -1, 0, 4])),
  strange('sum', (x) => w.sum(x!)),
  strange('max', (x) => w.max(x!)),
  strange('clone', (x) => w.clone(x!)),
  row(
    'where over NaN',
    fixed({
      inputs: [
        exactly([4], [1, 0, 1, 0], 'bool'),
        exactly([4], [1, Number.NaN, 3, INF]),
        exactly([4], [5, 6, Number.NaN, 8]),
      ],
      f: (c, a, b) => w.where(c!, a!, b!),
      wrt: [],
    }),
  ),
  row(
    'toFloat',
    shapes().chain((s) =>
      fc.oneof(floats(s), ints(s), bools(s)).map((x) => ({ inputs: [x], f: w.toFloat as F, wrt: [] })),
    ),
  ),
  row(
    'cast',
    shapes().chain((s) =>
      fc
        .tuple(
          fc.oneof(floats(s, -9, 9), ints(s), bools(s)),
          fc.constantFrom('float32' as const, 'int32' as const, 'bool' as const),
        )
        .map(([x, to]) => ({ inputs: [x], f: (t) => w.cast(t!, to), note: to, wrt: [] })),
    ),
  ),
  row(
    'cast in a gradient',
    shapes().chain((s) => floats(s).map((x) => ({ inputs: [x], f: (t) => w.cast(t!, 'float32') }))),
  ),
]

const reductions: Row[] = [
  ...(['sum', 'mean', 'max', 'min'] as const).map((n) =>
    reduced(n, (x, axes, keep) => op[n]!(x, axes as never, keep as never) as w.Tensor),
  ),
  reduced(
    'prod',
    (x, axes, keep) => w.prod(x, axes, keep),
    (s) => floats(s, 0.5, 1.5),
  ),
  ...(['sum', 'max', 'min', 'prod'] as const).map((n) =>
    reduced(
      `${n} of int32`,
      (x, axes, keep) => op[n]!(x, axes as never, keep as never) as w.Tensor,
      (s) => ints(s, -2, 3),
    ),
  ),
  reduced('sum of bool', (x, axes, keep) => w.sum(x, axes, keep), bools),
  row(
    'sum of many',
    fc.constantFrom(999, 1000, 4097).chain((n) => floats([3, n]).map((x) => ({ inputs: [x], f: (t) => w.sum(t!, 1) }))),
  ),
  row(
    'max of many',
    fc.constantFrom(999, 4097).chain((n) => floats([3, n]).map((x) => ({ inputs: [x], f: (t) => w.max(t!, 1) }))),
  ),
  along('argMax', (x, a) => w.argMax(x, a)),
  along('argMin', (x, a) => w.argMin(x, a)),
  row(
    'argMax of a long row',
    floats([3, 4099]).map((x) => ({ inputs: [x], f: (t) => w.argMax(t!, 1) })),
  ),
  along('cumsum', (x, a) => w.add(w.cumsum(x, a), w.cumsum(x, a, true, true))),
  along('cumsum of int32', (x, a) => w.cumsum(x, a, true), ints),
  row(
    'softmax',
    shapes(1).chain((s) => floats(s, -9, 9).map((x) => ({ inputs: [x], f: (t) => w.softmax(t!) }))),
  ),
  row(
    'softmax of a long row',
    floats([2, 4099], -9, 9).map((x) => ({ inputs: [x], f: (t) => w.softmax(t!) })),
  ),
  row(
    'softmax with hidden places',
    fixed({
      inputs: [
        exactly([3, 4], [0, 1, 2, 3]),
        exactly([3, 4], [0, -1e9, 0, -1e9, -1e9, -1e9, 0, 0, -1e9, -1e9, -1e9, -1e9]),
      ],
      f: (x, bias) => w.softmax(w.add(x!, bias!)),
      wrt: [0],
    }),
  ),
  row(
    'logSoftmax',
    shapes(1).chain((s) => floats(s, -9, 9).map((x) => ({ inputs: [x], f: (t) => w.logSoftmax(t!) }))),
  ),
  row(
    'topk',
    shapes(1, 3).chain((s) =>
      fc.tuple(floats(s), fc.integer({ min: 1, max: s.at(-1)! })).map(([x, k]) => ({
        inputs: [x],
        f: (t) => {
          const { values, indices } = w.topk(t!, k)
          return [values, w.cast(indices, 'float32')]
        },
        note: `k ${k}`,
        wrt: [],
      })),
    ),
  ),
  row(
    'topk of a long row',
    floats([2, 999]).map((x) => ({ inputs: [x], f: (t) => w.topk(t!, 5).values, wrt: [] })),
  ),
]

const creation: Row[] = [
  row('scalar', fixed({ inputs: [], f: () => [w.scalar(2.5), w.scalar(3, 'int32'), w.scalar(true)] })),
  row('tensor', fixed({ inputs: [], f: () => w.tensor([1, 2, 3, 4], [2, 2]) })),
  row('tensor1d', fixed({ inputs: [], f: () => w.tensor1d([1, 2, 3]) })),
  row('tensor2d', fixed({ inputs: [], f: () => w.tensor2d([[1], [2]]) })),
  row('tensor3d', fixed({ inputs: [], f: () => w.tensor3d([[[1], [2]]]) })),
  row('tensor4d', fixed({ inputs: [], f: () => w.tensor4d([[[[1], [2]]]], undefined, 'int32') })),
  row(
    'buffer',
    fixed({
      inputs: [],
      f: () => {
        const b = w.buffer([2, 2])
        b.set(5, 1, 0)
        return b.toTensor()
      },
    }),
  ),
  row('zeros', fixed({ inputs: [], f: () => [w.zeros([3, 5]), w.zeros([], 'int32'), w.zeros([2], 'bool')] })),
  row('ones', fixed({ inputs: [], f: () => [w.ones([3, 5]), w.ones([], 'int32'), w.ones([2], 'bool')] })),
  row('fill', fixed({ inputs: [], f: () => [w.fill([3, 5], 2.5), w.fill([7], -3, 'int32')] })),
  row('eye', fixed({ inputs: [], f: () => [w.eye(5), w.eye(3, 5)] })),
  row(
    'range',
    fixed({
      inputs: [],
      f: () => [
        w.range(0, 7, 1, 'int32'),
        w.range(5, 0, -2),
        w.range(0, 1, 0.3),
        w.add(w.range(0, 5, 1, 'int32'), 2 ** 25),
      ],
    }),
  ),
  row(
    'oneHot',
    shapes(0, 3).chain((s) => ints(s, -1, 7).map((x) => ({ inputs: [x], f: (t) => w.oneHot(t as w.Tensor1D, 7) }))),
  ),
  row('tidy', fixed({ inputs: [exactly([3], [1, 2, 3])], f: (x) => w.tidy(() => w.add(w.mul(x!, 2), 1)) })),
  row(
    'keep',
    fixed({
      inputs: [exactly([3], [1, 2, 3])],
      f: (x) => {
        const kept = w.tidy(() => w.keep(w.mul(x!, 2)))
        const y = w.mul(kept, 1)
        kept.dispose()
        return y
      },
    }),
  ),
  row(
    'dispose',
    fixed({
      inputs: [exactly([3], [1, 2, 3])],
      f: (x) => {
        const before = w.memory().numTensors
        w.dispose([w.mul(x!, 2), w.mul(x!, 3)])
        return w.scalar(w.memory().numTensors - before)
      },
      wrt: [],
    }),
  ),
  row(
    'memory',
    fixed({
      inputs: [exactly([3], [1, 2, 3])],
      f: (x) => {
        const before = w.memory()
        const y = w.exp(w.tile(x!, [4]))
        const after = w.memory()
        y.dispose()
        return w.tensor1d([after.numTensors - before.numTensors, after.numBytes - before.numBytes])
      },
      wrt: [],
    }),
  ),
]

export const ops: readonly Row[] = [...arithmetic, ...elementwise, ...reductions, ...creation]
export { along, fixed, row }
