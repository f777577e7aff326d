import fc from 'fast-check'
import * as w from '../../src/index.ts'

/** Numbers by a seed: small to print, the same everywhere. */
export interface Value {
  readonly shape: number[]
  readonly seed: number
  readonly low: number
  readonly high: number
  readonly dtype: 'float32' | 'int32' | 'bool'
  /** these in turn instead */
  readonly values?: number[]
}
/** One call of an op; gradients are taken in the inputs `wrt` (default: the float32 ones). */
export interface Case {
  readonly inputs: readonly Value[]
  readonly f: (...xs: w.Tensor[]) => w.Tensor | w.Tensor[]
  readonly wrt?: readonly number[]
  readonly note?: string
}
export interface Row {
  /** the export that the row stands for, and what of it: 'sum' or 'sum of int32' */
  readonly name: string
  readonly cases: fc.Arbitrary<Case>
  /** largest error allowed, relative to the largest entry of a result (at least 1). Default 1e-5 */
  readonly tolerance?: number
  /** backends that the row is not run on, each with the reason */
  readonly skip?: Readonly<Record<string, string>>
}

const bits = (i: number, seed: number): number => {
  let x = Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(seed + 1, 0x85ebca77)
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d)
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b)
  return (x ^ (x >>> 16)) >>> 0
}
const sizeOf = (shape: readonly number[]): number => shape.reduce((p, n) => p * n, 1)

const make = ({ shape, seed, low, high, dtype, values }: Value): w.Tensor => {
  const n = sizeOf(shape)
  const at = (i: number): number => {
    if (values) return values[i % values.length]!
    const unit = bits(i, seed) / 2 ** 32
    return dtype === 'float32' ? low + (high - low) * unit : Math.floor(low + (high - low) * unit)
  }
  const numbers = Array.from({ length: n }, (_, i) => at(i))
  if (dtype === 'float32') return w.tensor(Float32Array.from(numbers), shape)
  if (dtype === 'int32') return w.tensor(Int32Array.from(numbers), shape, 'int32')
  return w.tensor(Uint8Array.from(numbers), shape, 'bool')
}

export interface Result {
  readonly label: string
  readonly shape: readonly number[]
  readonly dtype: string
  readonly values: ArrayLike<number>
}

/** Outputs and gradients on the backend in use, and the number of tensors left behind (0 is right). */
export const evaluate = async ({ inputs, f, wrt }: Case): Promise<{ results: Result[]; leak: number }> => {
  const before = w.memory().numTensors
  const xs = inputs.map(make)
  const trained = (wrt ?? inputs.flatMap((v, i) => (v.dtype === 'float32' ? [i] : []))).map((i) => xs[i]!)
  const ys = w.tidy(() => [f(...xs)].flat())
  const named: [string, w.Tensor][] = ys.map((y, i) => [`output ${i}`, y])
  if (trained.length && ys.every((y) => y.dtype === 'float32')) {
    const { value, grads } = w.gradients(() => {
      const parts = [f(...xs)].flat().map((y, i) => {
        const c = make({ shape: y.shape, seed: 99 + i, low: -1, high: 1, dtype: 'float32' })
        return w.sum(w.mul(y, c))
      })
      return w.addN(parts)
    }, trained)
    value.dispose()
    grads.forEach((g, i) => {
      if (g) named.push([`gradient ${i}`, g])
    })
  }
  const results: Result[] = []
  for (const [label, t] of named) {
    const { shape, dtype } = t
    results.push({ label, shape, dtype, values: (await t.data()) as ArrayLike<number> })
  }
  w.dispose([...xs, ...named.map(([, t]) => t)])
  return { results, leak: w.memory().numTensors - before }
}

/** what is wrong with `found`, or undefined */
export const difference = (
  found: readonly Result[],
  expected: readonly Result[],
  tolerance: number,
): string | undefined => {
  if (found.length !== expected.length) return `${found.map((r) => r.label)} instead of ${expected.map((r) => r.label)}`
  for (const [i, e] of expected.entries()) {
    const r = found[i]!
    if (r.shape.join() !== e.shape.join()) return `${e.label}: shape [${r.shape}] instead of [${e.shape}]`
    if (r.dtype !== e.dtype) return `${e.label}: ${r.dtype} instead of ${e.dtype}`
    if (r.values.length !== e.values.length)
      return `${e.label}: ${r.values.length} values instead of ${e.values.length}`
    const finite = Array.from(e.values).filter(Number.isFinite).map(Math.abs)
    const scale = e.dtype === 'float32' ? Math.max(1, ...finite) : 0
    for (let j = 0; j < e.values.length; j++) {
      const [a, b] = [Number(r.values[j]), Number(e.values[j])]
      if (Object.is(a, b) || a === b) continue
      if (!(Math.abs(a - b) <= tolerance * scale)) return `${e.label}[${j}]: ${a} instead of ${b}`
    }
  }
  return undefined
}

const dim = fc.constantFrom(1, 2, 3, 5, 7)
const seed = fc.nat(1e6)
/** shapes of up to four axes whose sizes divide by nothing, up to 400 numbers */
export const shapes = (least = 0, most = 4): fc.Arbitrary<number[]> =>
  fc.array(dim, { minLength: least, maxLength: most }).filter((s) => sizeOf(s) <= 400)

export const floats = (shape: number[], low = -2, high = 2): fc.Arbitrary<Value> =>
  seed.map((s) => ({ shape, seed: s, low, high, dtype: 'float32' }))
export const ints = (shape: number[], low = -9, high = 10): fc.Arbitrary<Value> =>
  seed.map((s) => ({ shape, seed: s, low, high, dtype: 'int32' }))
export const bools = (shape: number[]): fc.Arbitrary<Value> =>
  seed.map((s) => ({ shape, seed: s, low: 0, high: 2, dtype: 'bool' }))
/** given numbers, in turn */
export const exactly = (shape: number[], values: number[], dtype: Value['dtype'] = 'float32'): Value => ({
  shape,
  values,
  dtype,
  seed: 0,
  low: 0,
  high: 0,
})
/** two shapes that broadcast to one */
export const broadcast: fc.Arbitrary<[number[], number[]]> = shapes().chain((shape) =>
  fc
    .tuple(
      ...[0, 1].map(() =>
        fc
          .tuple(fc.nat(shape.length), fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }))
          .map(([cut, ones]) => shape.slice(cut).map((n, i) => (ones[i] ? 1 : n))),
      ),
      fc.nat(1),
    )
    .map(([a, b, full]) => (full ? [shape, b as number[]] : [a as number[], shape])),
)
