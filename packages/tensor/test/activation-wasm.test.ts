import { setBackend } from '@tensorflow/tfjs-core'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'

beforeAll(async () => {
  await w.cpu()
  await w.wasm()
})
beforeEach(() => setBackend('wasm'))

/** erfc in float64: the series of erf where it is quick, else a continued fraction */
const erfc = (z: number): number => {
  if (z < 0) return 2 - erfc(-z)
  if (z < 2.5) {
    let [term, sum] = [z, z]
    for (let n = 1; Math.abs(term) > 1e-20; n++) {
      term *= -(z * z) / n
      sum += term / (2 * n + 1)
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum
  }
  let f = 0
  for (let k = 80; k > 0; k--) f = k / 2 / (z + f)
  return Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + f)
}
const C = Math.sqrt(2 / Math.PI)
type Pair = readonly [f: (x: number) => number, df: (x: number) => number]
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
const inner = (x: number): number => Math.tanh(C * (x + 0.044715 * x ** 3))
const phi = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)
const exact: Readonly<Record<w.Activation, Pair>> = {
  silu: [(x) => x * sigmoid(x), (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x)))],
  gelu: [(x) => (x / 2) * erfc(-x / Math.SQRT2), (x) => erfc(-x / Math.SQRT2) / 2 + x * phi(x)],
  gelu_tanh: [
    (x) => (x / 2) * (1 + inner(x)),
    (x) => 0.5 * (1 + inner(x)) + 0.5 * x * (1 - inner(x) ** 2) * C * (1 + 3 * 0.044715 * x * x),
  ],
  relu: [(x) => Math.max(x, 0), (x) => Number(x > 0)],
  tanh: [Math.tanh, (x) => 1 - Math.tanh(x) ** 2],
}

const ends = [-1e4, -90, -30, 30, 90, 1e4]
const xs = Float32Array.from([...ends, ...Array.from({ length: 2003 }, (_, i) => -10 + i / 100)])

/** largest error relative to the number itself, or to `least` where it is less */
const error = (found: ArrayLike<number>, f: (x: number) => number, least: number): number => {
  let most = 0
  xs.forEach((x, i) => {
    const right = f(x)
    most = Math.max(most, Math.abs(found[i]! - right) / Math.max(Math.abs(right), least))
  })
  return most
}

describe('activations on the wasm heap against float64', () => {
  for (const name of Object.keys(exact) as w.Activation[])
    it(name, () => {
      const [f, df] = exact[name]
      const errors = (plain: boolean): number[] => {
        w.kernels.plain = plain
        try {
          const x = w.tensor(xs)
          const { value, grads } = w.gradients(() => w.activate(x, name), [x])
          return [error(value.dataSync(), f, 1e-2), error(grads[0]!.dataSync(), df, 1)]
        } finally {
          w.kernels.plain = false
        }
      }
      const [fast, slow] = [errors(false), errors(true)]
      fast.forEach((e, i) => {
        expect(e, `composed: ${slow[i]}`).toBeLessThanOrEqual(Math.max(slow[i]!, 5e-7))
      })
    })

  it('as a gate: both gradients, for lengths on either side of four', () => {
    for (const n of [1, 2, 3, 4, 5, 7, 8, 130])
      for (const name of Object.keys(exact) as w.Activation[]) {
        const r = w.rng(n)
        const [gate, up, dy] = [r.normal([n]), r.normal([n]), r.normal([n])]
        const { value, grads } = w.gradients(() => w.glu(gate, up, name), [gate, up], dy)
        const [g, u, d, y, dg, du] = [gate, up, dy, value, grads[0]!, grads[1]!].map((t) =>
          t.dataSync(),
        ) as Float32Array[]
        const [f, df] = exact[name]
        for (let i = 0; i < n; i++) {
          expect(y![i]).toBeCloseTo(f(g![i]!) * u![i]!, 5)
          expect(dg![i]).toBeCloseTo(d![i]! * u![i]! * df(g![i]!), 5)
          expect(du![i]).toBeCloseTo(d![i]! * f(g![i]!), 5)
        }
      }
  })

  it('tanh by itself', () => {
    expect(error(w.tanh(w.tensor(xs)).dataSync(), Math.tanh, 1e-6)).toBeLessThan(3e-7)
    expect(w.tanh(w.tensor([0.5, -1])).dataSync()[1]).toBeCloseTo(Math.tanh(-1), 6)
  })

  it('NaN stays NaN', () => {
    for (const name of Object.keys(exact) as w.Activation[])
      expect(w.activate(w.tensor([1, Number.NaN]), name).dataSync()[1]).toBeNaN()
  })
})
