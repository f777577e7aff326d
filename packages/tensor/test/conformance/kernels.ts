import fc from 'fast-check'
import * as w from '../../src/index.ts'
import { exactly, floats, type Row, type Value } from './case.ts'
import { looked } from './gather.ts'
import { inverted } from './invert.ts'
import { products } from './linear.ts'
import { fixed, row } from './ops.ts'
import { sparse } from './sparse.ts'
import { transformed } from './walsh.ts'

const rowsOf = fc.constantFrom<number[][]>([1], [7], [1, 1], [2, 3], [1, 67], [3, 1, 5])
const width = fc.constantFrom(1, 3, 8, 64, 77, 130)
const vectors = (d: number, n: number): fc.Arbitrary<Value>[] => Array.from({ length: n }, () => floats([d]))
const activations = ['silu', 'gelu', 'gelu_tanh', 'relu', 'tanh'] as const

const normalized = fc.tuple(rowsOf, width)
const simple: Row[] = [
  row(
    'rmsNorm',
    normalized.chain(([s, d]) =>
      fc.tuple(floats([...s, d]), ...vectors(d, 1)).map((inputs) => ({ inputs, f: (x, g) => w.rmsNorm(x!, g!) })),
    ),
  ),
  row(
    'rmsNorm of zeros',
    fixed({ inputs: [exactly([2, 5], [0]), exactly([5], [1, 2])], f: (x, g) => w.rmsNorm(x!, g!, 1e-3) }),
  ),
  row(
    'layerNorm',
    // a width of one is all mean: 0/√ε, and rounding of the mean is magnified
    fc
      .tuple(rowsOf, fc.constantFrom(3, 8, 64, 77, 130))
      .chain(([s, d]) =>
        fc
          .tuple(floats([...s, d]), ...vectors(d, 2))
          .map((inputs) => ({ inputs, f: (x, g, b) => w.layerNorm(x!, g!, b!) })),
      ),
  ),
  row(
    'layerNorm of a constant',
    fixed({
      inputs: [exactly([2, 5], [3]), exactly([5], [1, 2]), exactly([5], [4])],
      f: (x, g, b) => w.layerNorm(x!, g!, b!),
    }),
  ),
  row(
    'addRmsNorm',
    fc
      .tuple(rowsOf, width, fc.constantFrom([0, 1, 2], [0], [1, 2]))
      .chain(([s, d, wrt]) =>
        fc
          .tuple(floats([...s, d]), floats([...s, d]), floats([d]))
          .map((inputs) => ({ inputs, f: (h, b, g) => w.addRmsNorm(h!, b!, g!), wrt, note: `wrt ${wrt}` })),
      ),
  ),
  row(
    'addLayerNorm',
    fc
      .tuple(rowsOf, fc.constantFrom(3, 8, 64, 77, 130), fc.constantFrom([0, 1, 2, 3], [1], [0, 3]))
      .chain(([s, d, wrt]) =>
        fc.tuple(floats([...s, d]), floats([...s, d]), floats([d]), floats([d])).map((inputs) => ({
          inputs,
          f: (h, b, g, o) => w.addLayerNorm(h!, b!, g!, o!),
          wrt,
          note: `wrt ${wrt}`,
        })),
      ),
  ),
  row(
    'rotary',
    fc
      .tuple(
        fc.constantFrom(1, 3),
        fc.constantFrom(1, 2),
        fc.constantFrom(1, 7, 12),
        fc.constantFrom(2, 6, 16),
        fc.boolean(),
      )
      .chain(([B, H, T, S, own]) => {
        const table = floats([own ? B : 1, 1, T, S / 2], -1, 1)
        return fc.tuple(floats([B, H, T, S]), table, table).map((inputs) => ({
          inputs,
          f: (x, c, s) => w.rotary(x!, c!, s!),
          wrt: [0],
        }))
      }),
  ),
  row(
    'rotaryHeads',
    fc
      .tuple(
        fc.constantFrom(1, 3),
        fc.constantFrom(1, 2, 3),
        fc.constantFrom(1, 7, 12),
        fc.constantFrom(2, 6, 16),
        fc.boolean(),
      )
      .chain(([B, H, T, S, own]) => {
        const table = floats([own ? B : 1, 1, T, S / 2], -1, 1)
        return fc.tuple(floats([B, T, H * S]), table, table).map((inputs) => ({
          inputs,
          f: (x, c, s) => w.rotaryHeads(x!, H, c!, s!),
          wrt: [0],
        }))
      }),
  ),
  ...activations.flatMap((a) => [
    row(
      `activate ${a}`,
      normalized.chain(([s, d]) => floats([...s, d], -6, 6).map((x) => ({ inputs: [x], f: (t) => w.activate(t!, a) }))),
    ),
    row(
      `glu ${a}`,
      fc
        .tuple(normalized, fc.constantFrom([0, 1], [0], [1]))
        .chain(([[s, d], wrt]) =>
          fc
            .tuple(floats([...s, d], -6, 6), floats([...s, d]))
            .map((inputs) => ({ inputs, f: (g, u) => w.glu(g!, u!, a), wrt, note: `wrt ${wrt}` })),
        ),
    ),
    row(
      `activate ${a} of large numbers`,
      fixed({ inputs: [exactly([6], [-1e4, -90, -12, 12, 90, 1e4])], f: (t) => w.activate(t!, a) }),
    ),
  ]),
]

/** batch, query heads, key-value heads, queries, keys, head width */
const sizes = fc.constantFrom<[number, number, number, number, number, number][]>(
  [1, 1, 1, 1, 1, 2],
  [1, 4, 2, 1, 9, 8],
  [2, 4, 1, 7, 7, 5],
  [1, 2, 2, 19, 19, 16],
  [2, 6, 2, 5, 37, 12],
  [1, 2, 1, 35, 35, 64],
  [1, 1, 1, 9, 20, 80],
)
const options = fc.constantFrom<w.AttentionOptions[]>(
  {},
  { causal: true },
  { causal: true, window: 3 },
  { window: 2 },
  { causal: true, softcap: 1.5 },
  { causal: true, scale: 0.3 },
)
const attended: Row[] = [
  row(
    'attention',
    fc.tuple(sizes, options, fc.constantFrom([0, 1, 2], [0], [1, 2])).chain(([[B, H, G, T, K, S], o, wrt]) =>
      fc.tuple(floats([B, H, T, S]), floats([B, G, K, S]), floats([B, G, K, S])).map((inputs) => ({
        inputs,
        f: (q, k, v) => w.attention(q!, k!, v!, undefined, o),
        wrt,
        note: `${JSON.stringify(o)} wrt ${wrt}`,
      })),
    ),
    { tolerance: 2e-5 },
  ),
  row(
    'attention with a bias',
    fc
      .tuple(sizes, options, fc.constantFrom('each', 'keys', 'batch'), fc.boolean())
      .chain(([[B, H, G, T, K, S], o, kind, learnt]) => {
        const shape = kind === 'each' ? [1, H, T, K] : kind === 'keys' ? [B, 1, 1, K] : [B, 1, T, K]
        return fc
          .tuple(floats([B, H, T, S]), floats([B, G, K, S]), floats([B, G, K, S]), floats(shape))
          .map((inputs) => ({
            inputs,
            f: (q, k, v, b) => w.attention(q!, k!, v!, b!, o),
            wrt: learnt ? [0, 1, 2, 3] : [0, 1, 2],
            note: `${JSON.stringify(o)} bias [${shape}] learnt ${learnt}`,
          }))
      }),
    { tolerance: 2e-5 },
  ),
  row(
    'attention with room for more keys',
    fc.tuple(floats([2, 4, 3, 6]), floats([2, 2, 9, 6]), floats([2, 2, 9, 6])).map((inputs) => ({
      inputs,
      f: (q, k, v) => w.attention(q!, k!, v!, undefined, { causal: true, window: 4, keys: 7 }),
    })),
  ),
  row(
    'writeRows',
    fc.tuple(fc.constantFrom(0, 2, 4), floats([2, 3, 6, 5]), floats([2, 3, 2, 5])).map(([at, into, x]) => ({
      inputs: [into, into, x],
      f: (a, b, x) =>
        w.writeRows(
          [
            [a!, x!],
            [b!, x!],
          ],
          at,
        ),
      wrt: [],
    })),
  ),
  row(
    'attention between packed segments',
    fc.tuple(floats([1, 2, 9, 8]), floats([1, 1, 9, 8]), floats([1, 1, 9, 8])).map((inputs) => ({
      inputs,
      f: (q, k, v) => {
        const segment = w.tensor1d([1, 1, 1, 2, 2, 3, 3, 3, 3])
        const apart = w.notEqual(w.expandDims(segment, 1), w.expandDims(segment, 0))
        const bias = w.reshape(w.mul(w.cast(apart, 'float32'), -1e9), [1, 1, 9, 9])
        return w.attention(q!, k!, v!, bias, { causal: true })
      },
    })),
  ),
]

const losses: Row[] = [
  row(
    'crossEntropy',
    fc
      .tuple(
        fc.constantFrom<[number, number, number][]>([1, 1, 2], [3, 4, 7], [7, 9, 300], [5, 16, 129]),
        fc.constantFrom<w.CrossEntropyOptions[]>({}, { rows: 2 }, { rows: 3, softcap: 2 }),
        fc.constantFrom([0, 1], [0], [1], []),
      )
      .chain(([[n, d, v], o, wrt]) =>
        fc
          .tuple(
            floats([n, d]),
            floats([v, d]),
            fc.array(fc.nat(v - 1), { minLength: n, maxLength: n }),
            fc.array(fc.constantFrom(0, 0.25, 1), { minLength: n, maxLength: n }),
          )
          .map(([h, e, ids, weights]) => ({
            inputs: [h, e, exactly([n], ids, 'int32'), exactly([n], weights)],
            f: (x, head, t, k) => w.crossEntropy(x!, head!, t!, k!, o),
            wrt,
            note: `${JSON.stringify(o)} wrt ${wrt}`,
          })),
      ),
    { tolerance: 2e-5 },
  ),
  row(
    'crossEntropy of large logits',
    fixed({
      inputs: [
        exactly([2, 2], [50, -50, 3, 90]),
        exactly([3, 2], [20, 1, -20, 1, 0, 30]),
        exactly([2], [1, 2], 'int32'),
        exactly([2], [1]),
      ],
      f: (x, head, t, k) => w.crossEntropy(x!, head!, t!, k!),
      wrt: [0, 1],
    }),
  ),
]

export const fused: readonly Row[] = [
  ...simple,
  ...attended,
  ...losses,
  ...products,
  ...looked,
  ...inverted,
  ...sparse,
  ...transformed,
]
