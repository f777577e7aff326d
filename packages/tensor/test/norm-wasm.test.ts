import { setBackend } from '@tensorflow/tfjs-core'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import * as w from '../src/index.ts'

beforeAll(async () => {
  await w.cpu()
  await w.wasm()
})
beforeEach(() => setBackend('wasm'))

interface Slopes {
  y: number[]
  x: number[]
  scale: number[]
  bias: number[]
}
/** y, and gradients for a slope dy, of rows in float64 */
const reference = (
  x: number[],
  dy: number[],
  scale: number[],
  bias: number[],
  eps: number,
  centred: boolean,
): Slopes => {
  const D = scale.length
  const found: Slopes = { y: [], x: [], scale: scale.map(() => 0), bias: scale.map(() => 0) }
  const mean = (v: number[]): number => v.reduce((a, b) => a + b, 0) / D
  for (let i = 0; i < x.length; i += D) {
    const row = x.slice(i, i + D)
    const d = dy.slice(i, i + D)
    const m = centred ? mean(row) : 0
    const r = 1 / Math.sqrt(mean(row.map((v) => (v - m) ** 2)) + eps)
    const n = row.map((v) => (v - m) * r)
    const g = d.map((v, j) => v * scale[j]!)
    const plain = centred ? mean(g) : 0
    const along = mean(g.map((v, j) => v * n[j]!))
    found.y.push(...n.map((v, j) => v * scale[j]! + bias[j]!))
    found.x.push(...g.map((v, j) => r * (v - plain - n[j]! * along)))
    for (let j = 0; j < D; j++) {
      found.scale[j]! += d[j]! * n[j]!
      found.bias[j]! += d[j]!
    }
  }
  return found
}
const error = (found: ArrayLike<number>, right: readonly number[]): number =>
  Math.max(...right.map((v, i) => Math.abs(found[i]! - v))) / Math.max(...right.map(Math.abs), 1e-30)

const gradientsOf = (f: (...xs: w.Tensor[]) => w.Tensor, xs: w.Tensor[], dy: w.Tensor): w.Tensor[] => {
  const { value, grads } = w.gradients(() => f(...xs), xs, dy)
  return [value, ...(grads as w.Tensor[])]
}

describe('norms on the wasm heap are at least as exact as composed ops', () => {
  for (const centred of [false, true])
    for (const [rows, D, offset] of [
      [5, 77, 0],
      [300, 64, 0.5],
      [3, 2049, 3],
    ] as const)
      it(`${centred ? 'layerNorm' : 'rmsNorm'} [${rows}, ${D}]`, () => {
        const r = w.rng(D)
        const [x, dy] = [w.add(r.normal([rows, D]), offset), r.normal([rows, D])]
        const [scale, bias] = [r.normal([D]), r.normal([D])]
        const values = [x, dy, scale, bias].map((t) => Array.from(t.dataSync())) as [
          number[],
          number[],
          number[],
          number[],
        ]
        const right = reference(
          values[0],
          values[1],
          values[2],
          centred ? values[3] : values[3].map(() => 0),
          1e-5,
          centred,
        )
        const f = centred
          ? (a: w.Tensor, s: w.Tensor, b: w.Tensor) => w.layerNorm(a, s, b, 1e-5)
          : (a: w.Tensor, s: w.Tensor) => w.rmsNorm(a, s, 1e-5)
        const inputs = centred ? [x, scale, bias] : [x, scale]
        const errors = (plain: boolean): number[] => {
          w.kernels.plain = plain
          try {
            const found = gradientsOf(f as never, inputs, dy)
            return found.map((t, i) => error(t.dataSync(), [right.y, right.x, right.scale, right.bias][i]!))
          } finally {
            w.kernels.plain = false
          }
        }
        const [fast, slow] = [errors(false), errors(true)]
        fast.forEach((e, i) => {
          // the last two are sums over all rows, where the order decides the rounding
          const floor = i < 2 ? 3e-7 : 6e-7
          expect(e, `error ${i}, composed: ${slow[i]}`).toBeLessThan(Math.max(1.25 * slow[i]!, floor))
        })
      })
})

describe('a residual and its norm as one', () => {
  const r = w.rng(1)
  const make = () => ({
    h: r.normal([2, 5, 77]),
    branch: r.normal([2, 5, 77]),
    scale: r.normal([77]),
    bias: r.normal([77]),
    slopes: [r.normal([2, 5, 77]), r.normal([2, 5, 77])] as const,
  })
  for (const kind of ['rms', 'layer'] as const)
    it(`${kind}: as the sum and the norm one by one, in value and every gradient`, () => {
      const { h, branch, scale, bias, slopes } = make()
      const score = ([sum, norm]: readonly w.Tensor[]): w.Tensor =>
        w.add(w.sum(w.mul(sum!, slopes[0])), w.sum(w.mul(norm!, slopes[1])))
      const xs = kind === 'rms' ? [h, branch, scale] : [h, branch, scale, bias]
      const fused = (): w.Tensor[] =>
        kind === 'rms' ? w.addRmsNorm(h, branch, scale, 1e-5) : w.addLayerNorm(h, branch, scale, bias, 1e-5)
      const apart = (): w.Tensor[] => {
        const sum = w.add(h, branch)
        return [sum, kind === 'rms' ? w.rmsNorm(sum, scale, 1e-5) : w.layerNorm(sum, scale, bias, 1e-5)]
      }
      const [a, b] = [fused, apart].map((f) => {
        const { value, grads } = w.gradients(() => score(f()), xs)
        return [value, ...grads, ...f()].map((t) => Array.from(t!.dataSync()))
      }) as [number[][], number[][]]
      expect(a.length).toBe(b.length)
      a.forEach((values, i) => {
        expect(error(values, b[i]!)).toBeLessThan(1e-6)
      })
    })

  it('gives the gradient of one output where nothing reads the other, and of the inputs that are wanted', () => {
    const { h, branch, scale, slopes } = make()
    const before = w.memory().numTensors
    for (const i of [0, 1]) {
      const [a, b] = [
        () => w.addRmsNorm(h, branch, scale)[i]!,
        () => (i ? w.rmsNorm(w.add(h, branch), scale) : w.add(h, branch)),
      ].map((f) => w.gradients(f, [branch], slopes[i]).grads[0]!) as [w.Tensor, w.Tensor]
      expect(error(a.dataSync(), Array.from(b.dataSync()))).toBeLessThan(1e-6)
      w.dispose([a, b])
    }
    expect(w.memory().numTensors - before).toBe(4) // the values of the four calls
  })

  it('says what does not fit', () => {
    const { h, scale } = make()
    expect(() => w.addRmsNorm(h, w.zeros([77]), scale)).toThrow(/one shape/)
  })
})
