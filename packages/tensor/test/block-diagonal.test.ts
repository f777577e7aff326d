import { afterAll, describe, expect, it } from 'vitest'
import { blockProduct, cpu, gradients, linear, mul, rng, sum, type Tensor, tensor2d, wasm } from '../src/index.ts'

/** diag(w) [n·p, n·q] with its zeros */
const filled = (w: Tensor): Tensor => {
  const [n, p, q] = w.shape as [number, number, number]
  const values = w.dataSync()
  const out = new Float32Array(n * p * n * q)
  values.forEach((v, at) => {
    const [i, r, c] = [Math.floor(at / (p * q)), Math.floor(at / q) % p, at % q]
    out[(i * p + r) * n * q + i * q + c] = v
  })
  return tensor2d(out, [n * p, n * q])
}
const near = (a: Tensor, b: Tensor): void => {
  expect(a.shape).toEqual(b.shape)
  const want = b.dataSync()
  a.dataSync().forEach((v, i) => {
    expect(Math.abs(v - want[i]!)).toBeLessThan(1e-4)
  })
}

describe.each([
  ['cpu', cpu],
  ['wasm', wasm],
])('blockProduct on %s', (_, backend) => {
  afterAll(() => cpu())
  it.each([
    [1, 3, 5, [2, 4]],
    [6, 4, 4, [2, 7]],
    [3, 2, 8, [5]],
    [2, 32, 32, [3, 1, 2]],
  ])('%i blocks [%i, %i] multiply and differentiate as the filled matrix does', async (n, p, q, rows) => {
    await backend()
    const [x, w] = [rng(1).normal([...rows, n * q]), rng(2).normal([n, p, q])]
    const dy = rng(3).normal([...rows, n * p])
    near(blockProduct(x, w), linear(x, filled(w)))
    const ours = gradients(() => sum(mul(blockProduct(x, w), dy)), [x, w]).grads
    const whole = filled(w)
    const want = gradients(() => sum(mul(linear(x, whole), dy)), [x, whole]).grads
    near(ours[0]!, want[0]!)
    const slope = want[1]!.dataSync() // its blocks on the diagonal
    ours[1]!.dataSync().forEach((v, at) => {
      const [i, r, c] = [Math.floor(at / (p * q)), Math.floor(at / q) % p, at % q]
      expect(Math.abs(v - slope[(i * p + r) * n * q + i * q + c]!)).toBeLessThan(1e-4)
    })
  })
})
