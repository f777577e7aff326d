import type { Rng, Tensor, Tensor2D, Weight } from '@weftjs/spec'
import { add, cpu, gradients, linear, memory, mul, rng, sum as sumOf, tensor2d, tidy } from '@weftjs/tensor'
import { toyCodec } from '@weftjs/testkit'
import { describe, expect, it } from 'vitest'
import { affine, compose, dense, lowRank, packed, scale, scaleRows, scatter, slices, sum } from '../src/index.ts'

await cpu()

const matrix = (r: Rng, out = 5, n = 4): Tensor2D => r.normal([out, n]) as Tensor2D
const low = (r: Rng): Weight => lowRank(matrix(r, 5, 2), matrix(r, 2, 4))
const few = (r: Rng): Weight => scatter([5, 4], tensor2d([0, 3, 4, 1, 3, 2], [2, 3], 'int32'), r.normal([3]) as never)
const WEIGHTS: Readonly<Record<string, (r: Rng) => Weight>> = {
  dense: (r) => dense(matrix(r)),
  'low rank': low,
  'a scaled low rank': (r) => scale(2, low(r)),
  packed: (r) => packed(toyCodec(), matrix(r)),
  'a composition': (r) => compose(dense(matrix(r, 5, 3)), dense(matrix(r, 3, 4))),
  'dense and low rank': (r) => sum(dense(matrix(r)), scale(0.5, low(r))),
  'low rank before dense': (r) => sum(scale(-2, low(r)), dense(matrix(r))),
  'packed and two of low rank': (r) => sum(packed(toyCodec(), matrix(r)), low(r), scale(3, scale(2, low(r)))),
  'nothing but low rank': (r) => sum(low(r), scale(3, low(r)), low(r)),
  'a sum of sums': (r) => sum(sum(dense(matrix(r)), low(r)), scale(3, sum(low(r), dense(matrix(r))))),
  'rows of a sum, and low rank': (r) => sum(scaleRows(r.normal([5]), sum(dense(matrix(r)), low(r))), low(r)),
  'a few numbers': few,
  'dense and a few numbers': (r) => sum(dense(matrix(r)), few(r)),
  'dense, twice a few numbers and low rank': (r) => sum(dense(matrix(r)), few(r), low(r), few(r)),
  'packed and a few numbers': (r) => sum(packed(toyCodec(), matrix(r)), few(r)),
  'dense and a slice': (r) => sum(dense(matrix(r)), slices([5, 4], 'columns', 1, matrix(r, 5, 2))),
  'low rank scaled by a tensor': (r) => sum(dense(matrix(r)), scale(r.normal([]), low(r))),
}
const close = (a: Tensor, b: Tensor): void => {
  expect(a.shape).toEqual(b.shape)
  const [x, y] = [a.dataSync(), b.dataSync()]
  x.forEach((v, i) => {
    expect(Math.abs(v - y[i]!)).toBeLessThan(2e-5)
  })
}

describe('x·Wᵀ + bias, in one pass or not', () => {
  for (const [name, make] of Object.entries(WEIGHTS))
    it(name, () => {
      const r = rng(1)
      const w = make(r)
      const [x, bias, c] = [r.normal([2, 3, 4]), r.normal([5]), r.normal([2, 3, 5])]
      // packed parts are frozen
      const parts = Object.entries(w.parts).filter(
        ([n, t]) => t.dtype === 'float32' && (!name.startsWith('packed') || /^[12]\./.test(n)),
      )
      const grads = (f: () => Tensor): (Tensor | null)[] =>
        gradients(() => sumOf(mul(f(), c)), [x, bias, ...parts.map(([, t]) => t)]).grads
      close(affine(w, x), linear(x, w.dense()))
      close(affine(w, x, bias), add(linear(x, w.dense()), bias))
      const found = grads(() => affine(w, x, bias))
      grads(() => add(linear(x, w.dense()), bias)).forEach((g, i) => {
        close(found[i]!, g!)
      })
    })
})

describe('a sum with a part of low rank', () => {
  const made = (f: () => unknown): number => {
    let n = 0
    tidy(() => {
      const before = memory().numTensors
      f()
      n = memory().numTensors - before
    })
    return n
  }

  it('is one product, and makes one tensor', () => {
    const r = rng(2)
    const [w, b, a, x, bias] = [matrix(r), matrix(r, 5, 2), matrix(r, 2, 4), r.normal([3, 4]), r.normal([5])]
    const whole = sum(dense(w), scale(0.5, lowRank(b, a)))
    expect(made(() => whole.apply(x))).toBe(1)
    expect(made(() => affine(whole, x, bias))).toBe(1)
  })

  it('is added to what a packed base gives, without a product of its own', () => {
    const r = rng(3)
    const [base, x] = [packed(toyCodec(), matrix(r)), r.normal([3, 4])]
    const [delta, alone] = [low(r), made(() => base.apply(x))]
    expect(made(() => sum(base, scale(2, delta)).apply(x))).toBe(alone + 1)
  })

  it('is what its apply says, where a copy has another', () => {
    const r = rng(4)
    const [base, delta, x] = [dense(matrix(r)), low(r), r.normal([3, 4])]
    const dropped: Weight = { ...delta, apply: (v) => mul(delta.apply(v), 0) }
    close(sum(base, dropped).apply(x), base.apply(x))
    close(sum(base, scale(7, dropped)).apply(x), base.apply(x))
  })
})
